"""What the daemon is made of, wired up around one open journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Self

from forwarder.config import ForwarderSettings
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.ingest.retrying import Gate
from forwarder.journal import Journal, Keeping
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import Observer
from forwarder.observe.output import LogOutput, Redactor
from forwarder.runtime.backfills import Backfills
from forwarder.runtime.operations import Operations
from forwarder.runtime.overview import DaemonOverview
from forwarder.runtime.rendering import Rendering
from forwarder.runtime.supervisor import Supervisor
from forwarder.runtime.workers import Sinks, Streams

SettingsReader = Callable[[], ForwarderSettings]
"""Reads the settings anew; raises ``ConfigError`` with every fault."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where happenings go."""

    observer: Observer
    metrics: Metrics
    output: LogOutput
    redactor: Redactor


@dataclass(frozen=True, slots=True)
class Parts:
    """The long-lived objects of one daemon."""

    journal: Journal
    supervisor: Supervisor
    rendering: Rendering
    streams: Streams
    sinks: Sinks
    overview: DaemonOverview
    operations: Operations
    backfills: Backfills
    clock: Clock
    emit: Emit

    @classmethod
    def around(
        cls,
        journal: Journal,
        settings: ForwarderSettings,
        telemetry: Telemetry,
        clock: Clock,
        emit: Emit,
    ) -> Self:
        """Wire everything up; nothing runs yet."""
        limit = settings.root.journal.max_size
        supervisor = Supervisor(clock, SystemRandom(), emit)
        gate = Gate(limit, journal.undelivered_bytes, clock, emit)
        streams = Streams(journal, gate, supervisor, clock, emit)
        rendering = Rendering(settings)
        sinks = Sinks(journal, rendering, supervisor, clock, emit)
        operations = Operations(journal, clock)
        backfills = Backfills(journal, streams, supervisor, clock)
        overview = DaemonOverview(
            journal=journal,
            gate=gate,
            streams=streams,
            sinks=sinks,
            backfills=backfills,
            supervisor=supervisor,
            metrics=telemetry.metrics,
            clock=clock,
            limit=limit,
        )
        return cls(
            journal=journal,
            supervisor=supervisor,
            rendering=rendering,
            streams=streams,
            sinks=sinks,
            overview=overview,
            operations=operations,
            backfills=backfills,
            clock=clock,
            emit=emit,
        )


def keeping(settings: ForwarderSettings) -> Keeping:
    """Return the journal's bounds as it wants them."""
    journal = settings.root.journal
    return Keeping(journal.max_size, round(journal.keep_delivered * 1_000_000))
