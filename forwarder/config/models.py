"""The settings as objects. Every key says its unit, its default and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, BeforeValidator, Field

from forwarder.config.sink_options import SinkOptions
from forwarder.transport.secrets import Secret
from forwarder.transport.settings import NamedPath, PluginSettings, Settings, TlsSettings
from forwarder.transport.units import Duration, Size

_HIGHEST_PORT = 65_535


def _listening(given: Any) -> str | None:
    """Take ``host:port`` or ``off`` (which YAML reads as false)."""
    if given in (False, "off", None):
        return None
    host, _, port = str(given).rpartition(":")
    if not host or not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise ValueError("write host:port, for example 127.0.0.1:9464 or [::1]:9464, or off")
    return f"{host}:{int(port)}"


class JournalSettings(Settings):
    """How much the journal may hold."""

    max_size: Size = Field(
        2 * 2**30, ge=2**20, description="undelivered bytes at which ingest waits"
    )
    keep_delivered: Duration = Field(
        86_400.0, description="how long delivered rows can be replayed"
    )


class AdminTlsSettings(Settings):
    """HTTPS for the admin server; changed files serve the next connection."""

    cert_file: Path = Field(description="PEM file with the certificate and its chain")
    key_file: Path = Field(description="PEM file with the key, without a password")
    ca_file: Path | None = Field(
        None,
        description="PEM file with authorities; demands a certificate of everybody, probes too",
    )
    min_version: Literal["1.2", "1.3"] = Field("1.2", description="lowest TLS version")


class AdminSettings(Settings):
    """Health, metrics, status page."""

    listen: Annotated[
        str | None,
        BeforeValidator(_listening, json_schema_input_type=str | Literal[False] | None),
    ] = Field("127.0.0.1:9464", description="host:port, or off; port 0 takes a free one")
    token: Secret | None = Field(
        None,
        description="token that all but /livez and /readyz demand, as bearer or as a password",
    )
    tls: AdminTlsSettings | None = Field(None, description="serve HTTPS instead of HTTP")

    @property
    def address(self) -> tuple[str, int] | None:
        """Return host and port to listen on, or None when switched off."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def server_tls(self) -> TlsSettings | None:
        """Return how the server protects its connections, or None for plain HTTP."""
        return None if self.tls is None else TlsSettings(**self.tls.model_dump())


class TracingSettings(Settings):
    """Spans for a collector; needs the extra ``otel``.

    What OpenTelemetry reads from the environment (``OTEL_EXPORTER_OTLP_HEADERS`` and the like)
    applies too.
    """

    endpoint: AnyHttpUrl = Field(
        description="address that takes OTLP over HTTP, http://collector:4318/v1/traces"
    )
    ratio: float = Field(1.0, ge=0, le=1, description="share of the spans that are sent")


class LogSettings(Settings):
    """Logs go to stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else one JSON object a line"
    )


class RootSettings(Settings):
    """What stands at the top of the file beside accounts and sinks."""

    version: Literal[1] = Field(description="version of this file's format")
    state_dir: NamedPath = Field(Path("state"), description="folder of the journal, mode 0700")
    journal: JournalSettings = Field(JournalSettings(), description="bounds of the journal")
    admin: AdminSettings = Field(AdminSettings(), description="health, metrics and status")
    log: LogSettings = Field(LogSettings(), description="what is logged, and how")
    tracing: TracingSettings | None = Field(None, description="send spans; off when left out")


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """One account: ``plugin`` is the source's class, ``config`` its ``Config``."""

    type: str
    plugin: Any
    config: Any

    @property
    def account_id(self) -> str:
        """Return Cloudflare's id of the account."""
        return str(self.config.account_id)

    @property
    def label(self) -> str:
        """Return the name for people: logs, metrics, events."""
        return str(self.config.label)


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """One sink: its plugin and ``Config``, its format and ``Config``, and the common keys."""

    name: str
    type: str
    plugin: Any
    config: PluginSettings
    format: str
    format_plugin: Any
    format_config: PluginSettings
    options: SinkOptions


@dataclass(frozen=True, slots=True)
class ForwarderSettings:
    """All settings, checked. ``warnings`` are sentences worth a log line, no reason to stop."""

    root: RootSettings
    accounts: tuple[AccountSettings, ...]
    sinks: tuple[SinkSettings, ...]
    warnings: tuple[str, ...] = ()
