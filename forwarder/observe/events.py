"""What the daemon itself has to tell: its start and end, its tasks, its settings, its secrets."""

from __future__ import annotations

from dataclasses import dataclass

from forwarder.core.telemetry import TelemetryEvent


@dataclass(frozen=True, slots=True)
class Started(TelemetryEvent):
    """Everything runs; ``config_hash`` is 12 hex digits over the effective settings."""

    version: str
    config_hash: str
    streams: int
    sinks: int


@dataclass(frozen=True, slots=True)
class AdminListening(TelemetryEvent):
    """Status and metrics can be asked at ``url``."""

    url: str


@dataclass(frozen=True, slots=True)
class AdminTlsUnusable(TelemetryEvent):
    """New TLS files cannot be used; connections get the certificate that was there before."""

    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class Stopping(TelemetryEvent):
    """A signal or a fault ends the process; sinks have ``grace`` seconds to settle."""

    reason: str
    grace: float


@dataclass(frozen=True, slots=True)
class Stopped(TelemetryEvent):
    """The last line: whether all that was in flight was settled, and what waits in the journal."""

    settled: bool
    backlog: int


@dataclass(frozen=True, slots=True)
class TaskCrashed(TelemetryEvent):
    """A task raised what nobody expected; it starts again after ``delay`` seconds."""

    task: str
    error: BaseException
    delay: float


@dataclass(frozen=True, slots=True)
class TaskStuck(TelemetryEvent):
    """A task gave no sign of life for ``seconds``; /livez fails until it does."""

    task: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SettingsWarning(TelemetryEvent):
    """Something in the settings deserves a look and stops nothing."""

    warning: str


@dataclass(frozen=True, slots=True)
class SettingsReloaded(TelemetryEvent):
    """New settings are in force; ``needs_restart`` names keys that wait for one."""

    config_hash: str
    sinks: tuple[str, ...]
    streams: tuple[str, ...]
    needs_restart: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingsRefused(TelemetryEvent):
    """New settings have faults; the old ones stay in force."""

    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecretChanged(TelemetryEvent):
    """A secret file was written anew; whoever waits for it tries again now."""

    file: str


@dataclass(frozen=True, slots=True)
class JournalTroubled(TelemetryEvent):
    """The journal could not be maintained; nothing is lost, and it is tried again."""

    error: str


@dataclass(frozen=True, slots=True)
class LibraryWarned(TelemetryEvent):
    """A library logged a warning (an error if ``severe``) at ``where``: a module, mostly a line."""

    library: str
    message: str
    where: str
    severe: bool
    error: BaseException | None
