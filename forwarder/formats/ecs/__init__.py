"""ECS: the Elastic Common Schema, as JSON."""

from forwarder.formats.ecs.format import EcsConfig, EcsFormat

__all__ = ["EcsConfig", "EcsFormat"]
