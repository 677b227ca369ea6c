"""The daemon's own happenings: metric and line."""

from __future__ import annotations

from forwarder.observe.events import (
    AdminListening,
    AdminTlsUnusable,
    JournalTroubled,
    LibraryWarned,
    SecretChanged,
    SettingsRefused,
    SettingsReloaded,
    SettingsWarning,
    Started,
    Stopped,
    Stopping,
    TaskCrashed,
    TaskStuck,
)
from forwarder.observe.lines import Level, Line, LogEvent
from forwarder.observe.metrics import Metrics
from forwarder.observe.table import Table

TABLE = Table()


@TABLE.on(Started)
def _started(event: Started, metrics: Metrics) -> Line:
    metrics.build.info({"version": event.version})
    metrics.config.info({"hash": event.config_hash})
    return Line(
        Level.INFO,
        LogEvent.STARTED,
        {
            "version": event.version,
            "config": event.config_hash,
            "streams": event.streams,
            "sinks": event.sinks,
        },
    )


@TABLE.on(AdminListening)
def _listening(event: AdminListening, _: Metrics) -> Line:
    return Line(Level.INFO, LogEvent.ADMIN_LISTENING, {"url": event.url})


@TABLE.on(AdminTlsUnusable)
def _tls_unusable(event: AdminTlsUnusable, _: Metrics) -> Line:
    fields = {"error": event.error, "hint": event.hint}
    return Line(Level.ERROR, LogEvent.ADMIN_TLS_UNUSABLE, fields, limited=True)


@TABLE.on(Stopping)
def _stopping(event: Stopping, _: Metrics) -> Line:
    fields = {"reason": event.reason, "grace_seconds": event.grace}
    return Line(Level.INFO, LogEvent.STOPPING, fields)


@TABLE.on(Stopped)
def _stopped(event: Stopped, _: Metrics) -> Line:
    level = Level.INFO if event.settled else Level.WARNING
    fields = {"settled": event.settled, "backlog_events": event.backlog}
    return Line(level, LogEvent.STOPPED, fields)


@TABLE.on(TaskCrashed)
def _crashed(event: TaskCrashed, metrics: Metrics) -> Line:
    metrics.task_crashes.labels(event.task.partition(":")[0]).inc()
    fields = {
        "task": event.task,
        "restart_in_seconds": round(event.delay, 1),
        "hint": "this is a fault of the program; please report it with this line",
    }
    return Line(Level.ERROR, LogEvent.TASK_CRASHED, fields, event.error, limited=True)


@TABLE.on(TaskStuck)
def _stuck(event: TaskStuck, _: Metrics) -> Line:
    fields = {"task": event.task, "silent_seconds": round(event.seconds)}
    return Line(Level.ERROR, LogEvent.TASK_STUCK, fields, limited=True)


@TABLE.on(SettingsWarning)
def _warning(event: SettingsWarning, _: Metrics) -> Line:
    return Line(Level.WARNING, LogEvent.SETTINGS_WARNING, {"message": event.warning})


@TABLE.on(SettingsReloaded)
def _reloaded(event: SettingsReloaded, metrics: Metrics) -> Line:
    metrics.reloads.labels("applied").inc()
    metrics.config.info({"hash": event.config_hash})
    fields = {
        "config": event.config_hash,
        "sinks": event.sinks,
        "streams": event.streams,
        "needs_restart": event.needs_restart,
    }
    level = Level.WARNING if event.needs_restart else Level.INFO
    return Line(level, LogEvent.SETTINGS_RELOADED, fields)


@TABLE.on(SettingsRefused)
def _refused(event: SettingsRefused, metrics: Metrics) -> Line:
    metrics.reloads.labels("refused").inc()
    fields = {"faults": event.faults, "hint": "the old settings stay in force"}
    return Line(Level.ERROR, LogEvent.SETTINGS_REFUSED, fields)


@TABLE.on(SecretChanged)
def _secret(event: SecretChanged, _: Metrics) -> Line:
    return Line(Level.INFO, LogEvent.SECRET_CHANGED, {"file": event.file})


@TABLE.on(JournalTroubled)
def _troubled(event: JournalTroubled, _: Metrics) -> Line:
    fields = {"error": event.error}
    return Line(Level.ERROR, LogEvent.JOURNAL_TROUBLED, fields, limited=True)


@TABLE.on(LibraryWarned)
def _library(event: LibraryWarned, metrics: Metrics) -> Line:
    metrics.library_warnings.inc()
    level = Level.ERROR if event.severe else Level.WARNING
    fields = {
        "library": event.library,
        "message": event.message,
        "where": event.where,
    }
    return Line(level, LogEvent.LIBRARY, fields, event.error, limited=True)
