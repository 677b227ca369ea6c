"""The format ``ocsf``: which mapping serves which event, and in which version."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import ClassVar, Literal

from pydantic import Field

from forwarder.core.identity import dumps
from forwarder.core.login import Login
from forwarder.core.schema import Event, Provisioning
from forwarder.formats.json_objects import Object, add_fields
from forwarder.formats.ocsf.classes import ADDABLE, map_own
from forwarder.formats.ocsf.login import map_login
from forwarder.formats.ocsf.provisioning import map_provisioning
from forwarder.formats.templates import Templated
from forwarder.transport.settings import PluginSettings


class OcsfConfig(PluginSettings):
    """What a sink with ``format: ocsf`` takes."""

    ocsf_version: Literal["1.7.0", "1.8.0", "1.9.0"] = Field(
        "1.8.0",
        description="schema to follow; 1.9.0 is written without an offline check of its schema",
    )
    raw_data: bool = Field(
        default=False, description="also send the row as received, as the text raw_data"
    )


class OcsfFormat(Templated):
    """Authentication, Account Change, Group Management and Application Lifecycle events."""

    Config: ClassVar[type[OcsfConfig]] = OcsfConfig
    summary: ClassVar[str] = "OCSF events as JSON, 1.8.0 unless set otherwise"
    media_type = "application/json"
    request_bodies = True

    def __init__(self, config: OcsfConfig, added: Mapping[str, str] | None = None) -> None:
        """Take the settings and the fields to add (dotted paths)."""
        super().__init__(templates=not config.raw_data)
        self._config = config
        self._added = added or {}

    def adding(self, fields: Mapping[str, str]) -> OcsfFormat:
        """Return this format with ``fields`` (dotted path to text) in every event."""
        return OcsfFormat(self._config, fields)

    @staticmethod
    def nearest_path(path: str) -> str:
        """Return ``path`` if every event may have a text there, else the nearest such path."""
        head, dot, rest = path.partition(".")
        if head in ADDABLE:
            return path
        found = get_close_matches(head, ADDABLE, 1)
        return f"{found[0]}{dot}{rest}" if found else f"unmapped.{path}"

    def write(self, event: Event) -> bytes:
        """Map ``event`` and write it as JSON."""
        target = self._map(event)
        if self._config.raw_data:
            target["raw_data"] = dumps(event.row).decode()
        return dumps(add_fields(target, self._added))

    def _map(self, event: Event) -> Object:
        version = self._config.ocsf_version
        if isinstance(event, Login):
            return map_login(event, version)
        if isinstance(event, Provisioning):
            return map_provisioning(event, version)
        return map_own(event, version)

    @staticmethod
    def time_text(time_us: int) -> str:
        """Return milliseconds since 1970, as OCSF has it."""
        return str(time_us // 1000)
