"""The daemon's own happenings: metric and line."""

from __future__ import annotations

from forwarder.observe.happenings import (
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
def _started(happening: Started, metrics: Metrics) -> Line:
    metrics.build.info({"version": happening.version})
    metrics.config.info({"hash": happening.config_hash})
    return Line(
        Level.INFO,
        LogEvent.STARTED,
        {
            "version": happening.version,
            "config": happening.config_hash,
            "streams": happening.streams,
            "sinks": happening.sinks,
        },
    )


@TABLE.on(AdminListening)
def _listening(happening: AdminListening, _: Metrics) -> Line:
    return Line(Level.INFO, LogEvent.ADMIN_LISTENING, {"url": happening.url})


@TABLE.on(AdminTlsUnusable)
def _tls_unusable(happening: AdminTlsUnusable, _: Metrics) -> Line:
    fields = {"error": happening.error, "hint": happening.hint}
    return Line(Level.ERROR, LogEvent.ADMIN_TLS_UNUSABLE, fields, limited=True)


@TABLE.on(Stopping)
def _stopping(happening: Stopping, _: Metrics) -> Line:
    fields = {"reason": happening.reason, "grace_seconds": happening.grace}
    return Line(Level.INFO, LogEvent.STOPPING, fields)


@TABLE.on(Stopped)
def _stopped(happening: Stopped, _: Metrics) -> Line:
    level = Level.INFO if happening.settled else Level.WARNING
    fields = {"settled": happening.settled, "backlog_events": happening.backlog}
    return Line(level, LogEvent.STOPPED, fields)


@TABLE.on(TaskCrashed)
def _crashed(happening: TaskCrashed, metrics: Metrics) -> Line:
    metrics.task_crashes.labels(happening.task.partition(":")[0]).inc()
    fields = {
        "task": happening.task,
        "restart_in_seconds": round(happening.delay, 1),
        "hint": "this is a fault of the program; please report it with this line",
    }
    return Line(Level.ERROR, LogEvent.TASK_CRASHED, fields, happening.error, limited=True)


@TABLE.on(TaskStuck)
def _stuck(happening: TaskStuck, _: Metrics) -> Line:
    fields = {"task": happening.task, "silent_seconds": round(happening.seconds)}
    return Line(Level.ERROR, LogEvent.TASK_STUCK, fields, limited=True)


@TABLE.on(SettingsWarning)
def _warning(happening: SettingsWarning, _: Metrics) -> Line:
    return Line(Level.WARNING, LogEvent.SETTINGS_WARNING, {"message": happening.warning})


@TABLE.on(SettingsReloaded)
def _reloaded(happening: SettingsReloaded, metrics: Metrics) -> Line:
    metrics.reloads.labels("applied").inc()
    metrics.config.info({"hash": happening.config_hash})
    fields = {
        "config": happening.config_hash,
        "sinks": happening.sinks,
        "streams": happening.streams,
        "needs_restart": happening.needs_restart,
    }
    level = Level.WARNING if happening.needs_restart else Level.INFO
    return Line(level, LogEvent.SETTINGS_RELOADED, fields)


@TABLE.on(SettingsRefused)
def _refused(happening: SettingsRefused, metrics: Metrics) -> Line:
    metrics.reloads.labels("refused").inc()
    fields = {"faults": happening.faults, "hint": "the old settings stay in force"}
    return Line(Level.ERROR, LogEvent.SETTINGS_REFUSED, fields)


@TABLE.on(SecretChanged)
def _secret(happening: SecretChanged, _: Metrics) -> Line:
    return Line(Level.INFO, LogEvent.SECRET_CHANGED, {"file": happening.file})


@TABLE.on(JournalTroubled)
def _troubled(happening: JournalTroubled, _: Metrics) -> Line:
    fields = {"error": happening.error}
    return Line(Level.ERROR, LogEvent.JOURNAL_TROUBLED, fields, limited=True)


@TABLE.on(LibraryWarned)
def _library(happening: LibraryWarned, metrics: Metrics) -> Line:
    metrics.library_warnings.inc()
    level = Level.ERROR if happening.severe else Level.WARNING
    fields = {
        "library": happening.library,
        "message": happening.message,
        "where": happening.where,
    }
    return Line(level, LogEvent.LIBRARY, fields, happening.error, limited=True)
