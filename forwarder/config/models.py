"""The settings as typed, frozen models. Every key has its unit, its default and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, BeforeValidator, Field, model_validator

from forwarder.sources.logpush.config import LogpushConfig
from forwarder.transport.settings import (
    Duration,
    NamedPath,
    PluginSettings,
    Secret,
    ServerTlsSettings,
    Settings,
    Size,
)


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Words = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...]),
]
"""One text or a list of them."""

_Outcome = Literal["success", "failure", "unknown"]
Outcomes = Annotated[
    tuple[_Outcome, ...],
    BeforeValidator(_as_list, json_schema_input_type=_Outcome | tuple[_Outcome, ...]),
]
"""One outcome or a list of them; any other word would match nothing and silence the sink."""


class EventFilter(Settings):
    """Selects events: every given key must match, by any one of its values."""

    stream: Words = Field((), description="a stream, such as access_requests, or forwarder")
    outcome: Outcomes = Field((), description="result of the action")
    action: Words = Field((), description="the row's action, for example login or logout")
    app: Words = Field((), description="name, domain or id of the application")
    connection: Words = Field((), description="the login method")


class BatchOptions(Settings):
    """How large a batch may grow; a missing key takes the default of the sink type."""

    max_events: int | None = Field(None, ge=1, le=100_000, description="events in one batch")
    max_bytes: Size | None = Field(None, ge=1, description="bytes of the bodies in one batch")
    max_wait: Duration | None = Field(None, description="longest time an incomplete batch waits")


class RetryOptions(Settings):
    """Waiting between attempts: exponential, with full jitter."""

    initial: Duration = Field(1.0, gt=0, description="ceiling of the first wait")
    max: Duration = Field(30.0, gt=0, description="ceiling of all waits")

    @model_validator(mode="after")
    def _in_order(self) -> RetryOptions:
        if self.initial > self.max:
            raise ValueError("retry.initial must not be above retry.max")
        return self


class SinkOptions(Settings):
    """The keys that every sink takes beside its own; the plugin never sees them."""

    format: str | None = Field(
        None, description="how events are written; default: that of the sink type"
    )
    when_full: Literal["block", "drop_oldest"] = Field(
        "block", description="block: no row is lost, reading waits; drop_oldest: best effort"
    )
    start_at: Literal["now", "beginning"] = Field(
        "now", description="where a sink begins that is new to this journal"
    )
    paused: bool = Field(False, description="keep the offset and deliver nothing")
    batch: BatchOptions = Field(BatchOptions(), description="how large batches may grow")
    max_in_flight: int | None = Field(
        None, ge=1, le=256, description="batches in flight at the same time"
    )
    timeout: Duration | None = Field(None, gt=0, description="longest time one batch may take")
    retry: RetryOptions = Field(RetryOptions(), description="waiting between attempts")
    only: EventFilter | None = Field(None, description="deliver only these events")
    except_: EventFilter | None = Field(
        None, alias="except", description="do not deliver these events"
    )
    drop_fields: Words = Field((), description="keys of the row to remove")
    hash_fields: Words = Field((), description="keys of the row to replace by a keyed hash")
    hash_key: Secret | None = Field(None, description="key of hash_fields")
    add_fields: dict[str, str] = Field({}, description="keys and texts to add to every event")
    redact_request_body: bool | None = Field(
        None, description="remove SCIM request bodies; default: as the format does"
    )

    @model_validator(mode="after")
    def _hashes_have_a_key(self) -> SinkOptions:
        if self.hash_fields and self.hash_key is None:
            raise ValueError("hash_fields needs hash_key or hash_key_file")
        return self


_HIGHEST_PORT = 65_535


def _listening(given: Any) -> str | None:
    """Return ``host:port``, or None for ``off``."""
    # YAML 1.1 reads an unquoted `off` as false.
    if given in (False, "off", None):
        return None
    host, _, port = str(given).rpartition(":")
    # Decimal digits only: int() would take signs, blanks and underscores.
    if not host or not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise ValueError("write host:port, for example 127.0.0.1:9464 or [::1]:9464, or off")
    return f"{host}:{int(port)}"


_SCHEMA = r"[a-z_][a-z0-9_]{0,50}"
_OF_POSTGRES = (
    "dsn", "password", "schema_", "fleet", "shards", "lease", "settings_generation", "pooler",
)  # fmt: skip


class JournalSettings(Settings):
    """Where the journal is, and how much it may hold; ``postgres`` needs the extra ``postgres``.

    On PostgreSQL, several replicas may run. Each works on some of the shards; those without one
    stand by.
    """

    type: Literal["sqlite", "postgres"] = Field(
        "sqlite", description="sqlite: a file in state_dir; postgres: a database, for replicas"
    )
    dsn: Secret | None = Field(
        None, description="connection string (libpq) of the database, for postgres"
    )
    password: Secret | None = Field(
        None, description="password of the role, if it is not in dsn; read at each connection"
    )
    schema_: str = Field(
        "forwarder",
        alias="schema",
        pattern=f"^{_SCHEMA}$",
        description="schema of the database; each forwarder needs one of its own",
    )
    fleet: str = Field(
        "",
        max_length=200,
        description="name of this forwarder, the same for all its replicas; a replica with another "
        "name is refused. Without names, one without a common account is",
    )
    shards: int = Field(
        1, ge=1, le=64, description="parts of the journal, which replicas share out among them"
    )
    lease: Duration = Field(
        10.0, ge=2, le=300, description="after how long a replica that died is replaced"
    )
    settings_generation: int | None = Field(
        None,
        ge=1,
        description="which settings are newer, the higher; default: those that came later",
    )
    pooler: bool = Field(
        False,
        description="a pooler in transaction mode (PgBouncer) is in between",
    )
    max_size: Size = Field(
        2 * 2**30, ge=2**20, description="undelivered bytes at which reading waits"
    )
    keep_delivered: Duration = Field(
        86_400.0, description="how long delivered rows can be replayed"
    )

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> JournalSettings:
        if self.type == "postgres" and self.dsn is None:
            raise ValueError("type postgres needs dsn or dsn_file")
        names = ", ".join(
            name.rstrip("_")
            for name in _OF_POSTGRES
            if getattr(self, name) != type(self).model_fields[name].default
        )
        if self.type == "sqlite" and names:
            raise ValueError(f"only type postgres has {names}")
        return self


class AdminSettings(Settings):
    """Health, metrics, status page."""

    listen: Annotated[
        str | None,
        BeforeValidator(_listening, json_schema_input_type=str | Literal[False] | None),
    ] = Field("127.0.0.1:9464", description="host:port, or off; port 0 takes any free port")
    token: Secret | None = Field(
        None,
        description="token for everything but /livez and /readyz, as bearer token or as password",
    )
    tls: ServerTlsSettings | None = Field(None, description="serve HTTPS instead of HTTP")

    @property
    def address(self) -> tuple[str, int] | None:
        """Return host and port to listen on, or None if switched off."""
        return None if self.listen is None else _split(self.listen)


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    # Brackets are how a URL writes IPv6; sockets take the address without.
    return host.strip("[]"), int(port)


class LogpushSettings(LogpushConfig):
    """Receives what Cloudflare's Logpush sends over HTTPS; off unless it is named."""

    listen: Annotated[str, BeforeValidator(_listening)] = Field(
        description="host:port; Cloudflare must reach it over HTTPS, here or at a proxy before it"
    )
    tls: ServerTlsSettings | None = Field(None, description="serve HTTPS instead of HTTP")

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port to listen on."""
        return _split(self.listen)


class TracingSettings(Settings):
    """Spans for a collector; needs the extra ``otel``.

    OpenTelemetry's environment variables apply as well (``OTEL_EXPORTER_OTLP_HEADERS``, ...).
    """

    endpoint: AnyHttpUrl = Field(
        description="address for OTLP over HTTP, such as http://collector:4318/v1/traces"
    )
    ratio: float = Field(1.0, ge=0, le=1, description="share of the spans that are sent")


class LogSettings(Settings):
    """Logs go to stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, otherwise one JSON object per line"
    )


class RootSettings(Settings):
    """The keys at the top of the file beside accounts and sinks."""

    version: Literal[1] = Field(description="version of this file's format")
    state_dir: NamedPath = Field(Path("state"), description="folder of the journal, mode 0700")
    journal: JournalSettings = Field(JournalSettings(), description="bounds of the journal")
    admin: AdminSettings = Field(AdminSettings(), description="health, metrics and status")
    log: LogSettings = Field(LogSettings(), description="what is logged, and how")
    logpush: LogpushSettings | None = Field(
        None, description="receive what Cloudflare pushes; off by default"
    )
    tracing: TracingSettings | None = Field(None, description="send spans; off by default")
    reload_on_change: bool = Field(
        False, description="reload this file when it changes, as SIGHUP does"
    )


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
        """Return the name that logs, metrics and events show."""
        return str(self.config.label)

    @property
    def credential(self) -> str:
        """Return what tells whose request budget the account uses; gives no secret away."""
        of = getattr(self.plugin, "credential", None)
        return self.account_id if of is None else f"{self.type}:{of(self.config)}"


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
    """All settings, validated. ``warnings`` are sentences to log; they do not stop anything.

    ``path`` is the file they were read from.
    """

    root: RootSettings
    accounts: tuple[AccountSettings, ...]
    sinks: tuple[SinkSettings, ...]
    warnings: tuple[str, ...] = ()
    path: Path | None = None
