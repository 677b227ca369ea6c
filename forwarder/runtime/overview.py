"""The running daemon as the admin server and the commands see it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import generate_latest

from forwarder import __version__
from forwarder.admin.server import Verdict
from forwarder.core.errors import ForwarderError
from forwarder.core.timing import Clock, format_seconds
from forwarder.ingest.retrying import Gate
from forwarder.journal import Journal
from forwarder.journal.dead_letters import MOST_EVENTS, summarise_letters
from forwarder.journal.ledger import count_gaps, latest_gaps
from forwarder.observe.levels import Levels, LevelsCollector
from forwarder.observe.metrics import Metrics, expect
from forwarder.runtime.backfills import Backfills
from forwarder.runtime.status import (
    History,
    Snapshot,
    gaps_json,
    journal_json,
    letters_json,
    levels_of,
    liveness,
    point_of,
    readiness,
    sinks_json,
    streams_json,
)
from forwarder.runtime.supervisor import Beat, Supervisor
from forwarder.runtime.workers import Sinks, Streams

_SHOWN = 20


class DaemonOverview:
    """Collects snapshots; implements ``admin.contract.Overview``."""

    def __init__(  # noqa: PLR0913 - one keyword a part of the daemon
        self,
        *,
        journal: Journal,
        gate: Gate,
        streams: Streams,
        sinks: Sinks,
        backfills: Backfills,
        supervisor: Supervisor,
        metrics: Metrics,
        clock: Clock,
        limit: int,
    ) -> None:
        """Look at these parts; ``limit`` is ``journal.max_size`` in bytes."""
        self._journal = journal
        self._gate = gate
        self._streams = streams
        self._sinks = sinks
        self._backfills = backfills
        self._supervisor = supervisor
        self._metrics = metrics
        self._clock = clock
        self._limit = limit
        self._started_us = clock.now_us()
        self._levels = Levels()
        self._history = History()
        self.started = False
        self.config_hash = ""
        metrics.registry.register(LevelsCollector(lambda: self._levels))

    def live(self) -> Verdict:
        """Tell whether every loop gives signs of life."""
        return liveness(self._supervisor.states())

    def ready(self) -> Verdict:
        """Tell whether events flow, or why not."""
        return readiness(
            started=self.started,
            gate_closed=self._gate.closed,
            journal_trouble=self._journal.trouble,
            streams=self._streams.states(),
            sinks=self._sinks.states(),
        )

    async def snapshot(self) -> Snapshot:
        """Look at everything once."""
        left = {
            name: (await queue.dead_letter_room())[0] for name, queue in self._sinks.queues.items()
        }
        return Snapshot(
            now_us=self._clock.now_us(),
            streams=self._streams.states(),
            sinks=self._sinks.states(),
            places=await self._journal.places(),
            dead_letters={name: MOST_EVENTS - room for name, room in left.items()},
            usage=await self._journal.usage(),
            limit=self._limit,
            gate_closed=self._gate.closed,
            ready=self.ready().well,
        )

    async def status(self) -> Mapping[str, Any]:
        """Return the whole state as JSON values."""
        snapshot, live, ready = await self.snapshot(), self.live(), self.ready()
        kinds = {
            name: {"type": sink.type, "format": sink.format}
            for name, sink in self._sinks.settings.items()
        }
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": format_seconds(self._started_us),
            "uptime_seconds": round((snapshot.now_us - self._started_us) / 1_000_000),
            "config": self.config_hash,
            "live": live.well,
            "ready": ready.well,
            "reasons": [*live.reasons, *ready.reasons],
            "streams": streams_json(snapshot),
            "sinks": sinks_json(snapshot, kinds),
            "journal": journal_json(snapshot),
            "backfills": self._backfills.states(),
            **await self._losses(),
            "tasks": [
                {
                    "task": task.name,
                    "silent_seconds": round(task.silent, 1),
                    "crashes": task.crashes,
                }
                for task in self._supervisor.states()
            ],
        }

    def expect(self) -> None:
        """Let the counters of the running streams and sinks begin at zero."""
        expect(self._metrics, self._streams.names, self._sinks.settings)

    def history(self) -> Mapping[str, Any]:
        """Return the last hour as JSON values."""
        return self._history.as_json()

    async def watch(self, beat: Beat) -> None:
        """Add to the history for ever; the runtime runs it as a task."""
        while True:
            beat()
            with suppress(ForwarderError):  # the journal is busy: this moment stays empty
                self._history.add(point_of(await self.snapshot(), self._metrics))
            await self._clock.sleep(self._history.interval)

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self._levels = levels_of(await self.snapshot())
        return generate_latest(self._metrics.registry)

    async def _losses(self) -> Mapping[str, Any]:
        """Return what was lost, or given up, with the freshest entries."""
        labels = self._streams.labels
        counted = await self._journal.ask(count_gaps)
        latest = await self._journal.ask(lambda connection: latest_gaps(connection, _SHOWN))
        letters = await self._journal.ask(lambda connection: summarise_letters(connection, _SHOWN))
        return {
            "gaps": gaps_json(counted, latest, labels),
            "dead_letters": letters_json(letters),
        }
