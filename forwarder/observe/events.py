"""What the daemon itself reports: its start and end, its tasks, its settings, its secrets."""

from __future__ import annotations

from forwarder.core.telemetry import (
    ERROR,
    INFO,
    WARNING,
    PluginEvent,
    TelemetryEvent,
    event,
    hidden,
    rounded,
    shown,
)


@event("started", INFO)
class Started(TelemetryEvent):
    """The forwarder has started; ``config`` is a hash of the settings in force."""

    version: str
    config_hash: str = shown("config")
    streams: int
    sinks: int


@event()
class CredentialSeen(TelemetryEvent):
    """An account's credential ends then (seconds since 1970); None: nobody knows of an end."""

    account: str
    expires_s: float | None


@event("admin_listening", INFO)
class AdminListening(TelemetryEvent):
    """Status and metrics are available at this address."""

    url: str


@event("admin_tls_unusable", ERROR, limited=True)
class AdminTlsUnusable(TelemetryEvent):
    """The admin server's new certificate or key is invalid; the last valid ones stay in use."""

    error: str
    hint: str


@event("stopping", INFO)
class Stopping(TelemetryEvent):
    """The forwarder was asked to stop; sinks have ``grace_seconds`` to settle."""

    reason: str
    grace: float = shown("grace_seconds")


@event("stopped", INFO, WARNING)
class Stopped(TelemetryEvent):
    """The forwarder has stopped; ``settled`` is false when batches were cut off."""

    settled: bool
    backlog: int = shown("backlog_events")

    def is_worse(self) -> bool:
        """Return True if batches were cut off."""
        return not self.settled


@event("standing_by", INFO)
class StandingBy(TelemetryEvent):
    """This replica waits until it gets a shard of the shared journal; others may have all."""

    version: str
    config_hash: str = shown("config")


@event("shard_taken", INFO)
class ShardTaken(TelemetryEvent):
    """This replica works on a shard of the shared journal from now on.

    ``former`` is the owner before if it never gave the shard back: it died, or was cut off.
    """

    shard: int
    epoch: int
    former: str


@event("settings_older", WARNING, hint="reload or restart it; see journal.settings_generation")
class SettingsOlder(TelemetryEvent):
    """This replica takes no shard because other living replicas have newer settings."""

    newer: tuple[str, ...]


@event("upgrade_waits", INFO, hint="it continues by itself when they have stopped")
class UpgradeWaits(TelemetryEvent):
    """The journal's tables are upgraded when these replicas of an older release have stopped."""

    older: tuple[str, ...]


@event("shard_given", INFO)
class ShardGiven(TelemetryEvent):
    """This replica gave a shard back, so that another one with fewer shards can take it."""

    shard: int


@event("journal_lost", WARNING)
class JournalLost(TelemetryEvent):
    """This replica stopped reading and delivering because it lost a shard of the journal.

    Another replica may have it now, or the database does not answer.
    """

    shard: int
    reason: str


@event(
    "task_crashed",
    ERROR,
    limited=True,
    hint="this is a bug in the forwarder; please report it with this line",
)
class TaskCrashed(TelemetryEvent):
    """A task crashed and was restarted from the journal; nothing is lost."""

    task: str
    error: BaseException = shown("exception")
    delay: float = rounded(1, "restart_in_seconds")


@event("task_stuck", ERROR, limited=True, hint="restart the forwarder if nobody else does")
class TaskStuck(TelemetryEvent):
    """A task does not respond; `/livez` fails until it does."""

    task: str
    seconds: float = rounded(0, "silent_seconds")


@event("settings_warning", WARNING)
class SettingsWarning(TelemetryEvent):
    """The settings work, but something about them is unwise."""

    warning: str = shown("message")


@event("settings_reloaded", INFO, WARNING)
class SettingsReloaded(TelemetryEvent):
    """New settings are in force; ``needs_restart`` names keys that wait for a restart."""

    config_hash: str = shown("config")
    sinks: tuple[str, ...]
    streams: tuple[str, ...]
    needs_restart: tuple[str, ...]

    def is_worse(self) -> bool:
        """Return True if a part of the settings is not in force yet."""
        return bool(self.needs_restart)


@event(
    "settings_refused",
    ERROR,
    hint="the old settings stay in force; fix the file, or the next start fails",
)
class SettingsRefused(TelemetryEvent):
    """New settings have faults; the old ones stay in force."""

    faults: tuple[str, ...]


@event("secret_changed", INFO)
class SecretChanged(TelemetryEvent):
    """A secret file changed and is read again."""

    file: str


@event("journal_troubled", ERROR, limited=True)
class JournalTroubled(TelemetryEvent):
    """The journal could not be read or written; the operation is retried."""

    error: str
    hint: str = ""


@event("library", WARNING, ERROR, limited=True)
class LibraryWarned(TelemetryEvent):
    """A library logged a warning or an error.

    ``where`` is a module, mostly with a line.
    """

    library: str
    message: str
    where: str
    severe: bool = hidden()
    error: BaseException | None = shown("exception")

    def is_worse(self) -> bool:
        """Return True for an error."""
        return self.severe


@event("log_lines_dropped", WARNING, limited=True, hint="let something read stderr faster")
class LogLinesDropped(TelemetryEvent):
    """Log lines were dropped because standard error took no more; forwarding did not wait."""

    lines: int


@event("telemetry_fault", ERROR, limited=True)
class TelemetryFailed(PluginEvent):
    """An event could not be counted or logged: a bug in the forwarder or in a plugin."""

    happening: str
    error: str
    where: str
