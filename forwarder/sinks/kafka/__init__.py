"""Kafka: one record an event."""

from forwarder.sinks.kafka.sink import KafkaSink

__all__ = ["KafkaSink"]
