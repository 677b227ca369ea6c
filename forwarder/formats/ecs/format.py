"""The format ``ecs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from forwarder.core.json_text import dumps
from forwarder.core.login import Login
from forwarder.core.provisioning import Provisioning
from forwarder.core.schema import Event
from forwarder.formats.ecs.mappings import map_login, map_own
from forwarder.formats.ecs.provisioning import map_provisioning
from forwarder.formats.iso_time import iso_text
from forwarder.formats.json_objects import Object, add_fields
from forwarder.formats.templates import Templated
from forwarder.transport.settings import PluginSettings


class EcsConfig(PluginSettings):
    """What a sink with ``format: ecs`` takes."""

    data_stream_namespace: str = Field(
        "default",
        pattern=r"^[^A-Z\-\\/*?\"<>| ,#:]{1,100}$",
        description="last part of the data stream's name, as in logs-cloudflare_access.audit-NAME",
    )
    event_original: bool = Field(
        default=False, description="also send the row as received, as the text event.original"
    )


class EcsFormat(Templated):
    """Events of ECS 9: ``authentication`` and ``iam``, our own fields below ``cloudflare``."""

    Config: ClassVar[type[EcsConfig]] = EcsConfig
    summary: ClassVar[str] = "Elastic Common Schema 9, for data streams"
    media_type = "application/json"
    request_bodies = True

    def __init__(self, config: EcsConfig, added: Mapping[str, str] | None = None) -> None:
        """Take the settings and the fields to add (dotted paths)."""
        super().__init__(templates=not config.event_original)
        self._config = config
        self._added = added or {}

    def adding(self, fields: Mapping[str, str]) -> EcsFormat:
        """Return this format with ``fields`` (dotted path to text) in every event."""
        return EcsFormat(self._config, fields)

    def write(self, event: Event) -> bytes:
        """Map ``event`` and write it as JSON."""
        target = self._map(event)
        if self._config.event_original:
            target["event"]["original"] = dumps(event.row).decode()
        return dumps(add_fields(target, self._added))

    def _map(self, event: Event) -> Object:
        namespace = self._config.data_stream_namespace
        if isinstance(event, Login):
            return map_login(event, namespace)
        if isinstance(event, Provisioning):
            return map_provisioning(event, namespace)
        return map_own(event, namespace)

    @staticmethod
    def time_text(time_us: int) -> str:
        """Return RFC 3339 with microseconds, UTC."""
        return iso_text(time_us)
