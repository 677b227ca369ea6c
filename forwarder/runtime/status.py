"""The state of the daemon: probes, ``/status``, gauges, and the last hour for the page.

``Overview`` collects a ``Snapshot``; pure functions turn it into what is shown.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from prometheus_client import generate_latest

from forwarder.admin.server import Verdict
from forwarder.core.contracts import LIVE
from forwarder.core.errors import ForwarderError
from forwarder.core.journal import (
    Gap,
    GapCount,
    JournalView,
    LetterGroup,
    SinkPlace,
    Usage,
    with_name,
)
from forwarder.core.lease import FleetState, Member
from forwarder.core.timing import format_seconds, format_us
from forwarder.delivery.state import SinkState, together
from forwarder.ingest.poller import StreamStatus
from forwarder.observe.gauges import STATES, GaugeCollector, Sample
from forwarder.observe.metrics import Metrics, summed
from forwarder.runtime.cell import Seat
from forwarder.runtime.health import (
    Degradation,
    liveness,
    readiness,
    standby_readiness,
    state_of,
)
from forwarder.runtime.history import INTERVAL, History, Point, Series
from forwarder.runtime.pushes import pushes_json
from forwarder.runtime.replica import VERSION, Reloads, Replica
from forwarder.runtime.supervisor import Beat, Supervisor, TaskState

_SECOND_US = 1_000_000
_NOTHING = Usage(0, 0, 0, 0)
_ALONE = FleetState()
_NEVER = Reloads(0)
_NO_LOSSES = {"gaps": {"total": 0, "open": 0, "latest": []}, "dead_letters": []}
_SHOWN = 20
"""Gaps, and groups of dead letters, that status shows."""


class Overview:
    """The running daemon as the admin server and commands see it.

    Implements ``admin.server.Overview``. Streams, sinks and losses are those of the cell.
    """

    def __init__(self, replica: Replica, seat: Seat, tasks: Supervisor | None = None) -> None:
        """Show the cell of ``seat``, and beside its tasks those of the process, if it has any."""
        self._replica = replica
        self._seat = seat
        self._tasks = tasks
        self._metrics = replica.telemetry.metrics
        self._started_us = replica.clock.now_us()
        self._gauges: list[Sample] = []
        self._history = History()
        self._degradation = Degradation(replica.clock)
        self._metrics.registry.register(GaugeCollector(lambda: self._gauges))

    def tasks(self) -> list[TaskState]:
        """Return the state of every task of the process."""
        supervisors = [cell.supervisor for cell in self._seat.cells.values()]
        own = [] if self._tasks is None else [self._tasks]
        return [task for one in (*supervisors, *own) for task in one.states()]

    def live(self) -> Verdict:
        """Return whether every task gives signs of life."""
        return liveness(self.tasks())

    def ready(self) -> Verdict:
        """Return whether events flow, and if not, why."""
        cells = self._seat.cells.values()
        if not cells:
            return standby_readiness(self._seat.trouble, self.tasks())
        return readiness(
            started=all(cell.started for cell in cells),
            gate_closed=any(cell.gate.closed for cell in cells),
            journal_trouble=next((cell.trouble for cell in cells if cell.trouble), None),
            tasks=self.tasks(),
            streams=self._streams(),
            sinks=self._sinks(),
        )

    def degraded(self) -> list[str]:
        """Return why the daemon is degraded, one sentence for each reason."""
        if not self._seat.cells.values():
            return []
        return self._degradation.look(
            self._streams(),
            self._sinks(),
            summed(self._metrics.rejected, "sink"),
            summed(self._metrics.api_budget_wait, "account"),
        )

    def _streams(self) -> list[StreamStatus]:
        return [stream for cell in self._seat.cells.values() for stream in cell.streams.states()]

    def _sinks(self) -> list[SinkState]:
        return together(sink for cell in self._seat.cells.values() for sink in cell.sinks.states())

    async def snapshot(self) -> Snapshot:
        """Collect everything once."""
        seat = self._seat
        journal = seat.journal(self._replica.placed)
        process = Snapshot(
            now_us=self._replica.clock.now_us(),
            limit=self._replica.settings.root.journal.max_size,
            ready=self.ready().well,
            reloads=self._replica.reloads,
            started_us=self._started_us,
            shards=frozenset(seat.cells),
            fleet=seat.fleet if seat.trouble is None else FleetState(seat.fleet.shards),
        )
        if journal is None:
            return process
        return replace(
            process,
            streams=self._streams(),
            sinks=self._sinks(),
            places=await journal.places(),
            dead_letters=await journal.count_letters(),
            usage=await self._seat.usage(),
            gate_closed=any(cell.gate.closed for cell in self._seat.cells.values()),
            degraded=self.degraded(),
            rows=summed(self._metrics.rows_new, "account", "stream"),
            delivered=summed(self._metrics.delivered, "sink"),
        )

    async def status(self) -> Mapping[str, Any]:
        """Return the whole state as JSON values."""
        snapshot, live, ready = await self.snapshot(), self.live(), self.ready()
        journal = self._seat.journal(self._replica.placed)
        cells, here = self._seat.cells.values(), snapshot.shards
        kinds = {
            name: {"type": sink.type, "format": sink.format}
            for cell in cells
            for name, sink in cell.sinks.settings.items()
        }
        return {
            "version": VERSION,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": format_seconds(self._started_us),
            "uptime_seconds": round((snapshot.now_us - self._started_us) / _SECOND_US),
            "config": self._replica.config_hash,
            "settings": reloads_json(self._replica.reloads),
            "live": live.well,
            "ready": ready.well,
            "state": state_of(ready=live.well and ready.well, degraded=snapshot.degraded),
            "reasons": [*live.reasons, *ready.reasons, *snapshot.degraded],
            "streams": streams_json(snapshot),
            "pushes": [] if journal is None else await self._pushes(snapshot, journal),
            "sinks": sinks_json(snapshot, kinds),
            "journal": journal_json(snapshot),
            "shards": [asdict(one) | {"here": one.shard in here} for one in snapshot.fleet.shards],
            "replicas": [_member_json(one, snapshot.fleet) for one in snapshot.fleet.replicas],
            "lost_replicas": [_member_json(one, snapshot.fleet) for one in snapshot.fleet.lost],
            "older_replicas": list(snapshot.fleet.older),
            "backfills": [one for cell in cells for one in cell.backfills.states()],
            **(_NO_LOSSES if journal is None else await self._losses(journal)),
            "tasks": tasks_json(self.tasks()),
            "budgets": summed(self._metrics.api_budget, "account"),
            "log": self._replica.telemetry.output.troubles(),
        }

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        # The registry collects synchronously, so what it collects is prepared here.
        self._gauges = list(gauges_of(await self.snapshot()))
        return generate_latest(self._metrics.registry)

    def history(self) -> Mapping[str, Any]:
        """Return the last hour as JSON values."""
        return self._history.as_json()

    async def watch(self, beat: Beat) -> None:
        """Add to the history for ever; the daemon runs it as a task."""
        while True:
            beat()
            # The journal cannot be read now: this moment stays empty.
            with suppress(ForwarderError):
                self._history.add(point_of(await self.snapshot(), self._metrics))
            await self._replica.clock.sleep(INTERVAL)

    async def _pushes(self, snapshot: Snapshot, journal: JournalView) -> list[dict[str, Any]]:
        labels, cursors = self._replica.rendering.labels, await journal.cursors()
        oldest = summed(self._metrics.logpush_oldest_row, "account", "dataset")
        return pushes_json(cursors, labels, snapshot.rows, oldest, snapshot.now_us)

    async def _losses(self, journal: JournalView) -> Mapping[str, Any]:
        """Return what was lost or given up, with the latest entries."""
        counted, latest = await journal.count_gaps(), await journal.latest_gaps(_SHOWN)
        letters = await journal.summarise_letters(_SHOWN)
        return {
            "gaps": gaps_json(counted, latest, self._replica.rendering.labels),
            "dead_letters": letters_json(letters),
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that status shows; ``dead_letters`` by sink, ``now_us`` the local wall clock.

    ``rows`` by ``account/stream`` and ``delivered`` by sink are counted since the process began.
    ``shards`` are those that this replica works on; ``fleet`` is empty for a journal in a file, and
    has no replicas while the database does not answer.
    """

    now_us: int
    streams: Sequence[StreamStatus] = ()
    sinks: Sequence[SinkState] = ()
    places: Sequence[SinkPlace] = ()
    dead_letters: Mapping[str, int] | None = None
    usage: Usage = _NOTHING
    limit: int = 0
    gate_closed: bool = False
    ready: bool = False
    reloads: Reloads = _NEVER
    degraded: Sequence[str] = ()
    rows: Mapping[str, float] = field(default_factory=dict)
    delivered: Mapping[str, float] = field(default_factory=dict)
    started_us: int = 0
    shards: Collection[int] = ()
    fleet: FleetState = _ALONE


def gauges_of(snapshot: Snapshot) -> Iterator[Sample]:
    """Yield the gauges of a snapshot; times are seconds since 1970."""
    now = snapshot.now_us / _SECOND_US
    yield "forwarder_ready", (), float(snapshot.ready)
    state = state_of(ready=snapshot.ready, degraded=snapshot.degraded)
    for word in STATES:
        yield "forwarder_state", (word,), float(word == state)
    yield "forwarder_started_timestamp_seconds", (), snapshot.started_us / _SECOND_US
    yield "forwarder_settings_refused", (), float(bool(snapshot.reloads.refused))
    yield "forwarder_settings_need_restart", (), float(bool(snapshot.reloads.needs_restart))
    for one in snapshot.fleet.shards:
        shard = (str(one.shard),)
        yield "forwarder_shard_owned", shard, float(one.shard in snapshot.shards)
        yield "forwarder_shard_epoch", shard, one.epoch
    yield "forwarder_replicas", (), len(snapshot.fleet.replicas) or None
    for stream in snapshot.streams:
        labels = (stream.stream, stream.account)
        covered, age = stream.covered_until.get(LIVE), stream.success_age_s
        yield "forwarder_covered_until_timestamp_seconds", labels, _seconds(covered)
        yield "forwarder_retention_left_seconds", labels, stream.retention_left_s
        last = None if age is None else now - age
        yield "forwarder_last_poll_success_timestamp_seconds", labels, last
        yield "forwarder_stream_held", labels, float(stream.phase == "held")
    for sink in snapshot.sinks:
        yield from _sink_gauges(sink, snapshot)
    usage = snapshot.usage
    yield "forwarder_journal_undelivered_bytes", (), usage.undelivered_bytes
    yield "forwarder_journal_stored_bytes", (), usage.stored_bytes
    yield "forwarder_journal_file_bytes", (), usage.file_bytes
    yield "forwarder_journal_limit_bytes", (), snapshot.limit
    yield "forwarder_journal_stored_rows", (), usage.stored_rows
    yield "forwarder_backpressure_active", (), float(snapshot.gate_closed)


def _sink_gauges(sink: SinkState, snapshot: Snapshot) -> Iterator[Sample]:
    labels = (sink.name,)
    dead = (snapshot.dead_letters or {}).get(sink.name, 0)
    oldest = oldest_age(snapshot, sink.name)
    yield "forwarder_sink_backlog_events", labels, backlog(snapshot, sink.name)
    yield "forwarder_sink_oldest_unacknowledged_seconds", labels, oldest
    yield "forwarder_sink_last_success_timestamp_seconds", labels, _seconds(sink.last_success_us)
    yield "forwarder_sink_in_flight_batches", labels, sink.in_flight
    yield "forwarder_sink_dead_letters", labels, dead
    yield "forwarder_sink_held", labels, float(not sink.ready)


def _seconds(time_us: int | None) -> float | None:
    return None if time_us is None else time_us / _SECOND_US


def streams_json(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the streams as /status shows them; ages in seconds, times in RFC 3339."""
    return [
        {
            **_stream_json(one, snapshot.now_us),
            "rows": round(snapshot.rows.get(f"{one.account}/{one.stream}", 0)),
        }
        for one in snapshot.streams
    ]


def sinks_json(snapshot: Snapshot, kinds: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the sinks as /status shows them; ``kinds`` gives type and format by name."""
    return [_sink_json(one, snapshot, kinds.get(one.name, {})) for one in snapshot.sinks]


def journal_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return the journal as /status shows it; sizes in bytes."""
    return {
        "undelivered_bytes": snapshot.usage.undelivered_bytes,
        "stored_bytes": snapshot.usage.stored_bytes,
        "stored_rows": snapshot.usage.stored_rows,
        "file_bytes": snapshot.usage.file_bytes,
        "limit_bytes": snapshot.limit,
        "gate_closed": snapshot.gate_closed,
        "orphans": [
            {"sink": place.sink, "backlog_events": place.backlog}
            for place in snapshot.places
            if not place.running
        ],
    }


def backlog(snapshot: Snapshot, sink: str) -> int:
    """Return the events that wait for a sink in all its lanes."""
    return sum(place.backlog for place in snapshot.places if place.sink == sink)


def oldest_age(snapshot: Snapshot, sink: str) -> float:
    """Return seconds since the oldest event that waits for a sink was first seen, or 0."""
    seen = [
        place.oldest_seen_us
        for place in snapshot.places
        if place.sink == sink and place.backlog and place.oldest_seen_us is not None
    ]
    return max(0.0, (snapshot.now_us - min(seen)) / _SECOND_US) if seen else 0.0


def _stream_json(one: StreamStatus, now_us: int) -> dict[str, Any]:
    covered = one.covered_until.get(LIVE)
    trouble = one.failure
    return {
        "account": one.account,
        "stream": one.stream,
        "phase": one.phase,
        "covered_until": None if covered is None else format_us(covered),
        "lag_seconds": None if covered is None else round((now_us - covered) / _SECOND_US, 3),
        "retention_left_seconds": _rounded(one.retention_left_s),
        "last_success_seconds_ago": _rounded(one.success_age_s),
        "error": trouble.error if trouble else "",
        "hint": trouble.hint if trouble else "",
        "readers": {name: format_us(until) for name, until in one.covered_until.items()},
        "parts": one.parts,
    }


def _sink_json(one: SinkState, snapshot: Snapshot, kind: Mapping[str, str]) -> dict[str, Any]:
    last = one.last_success_us
    return {
        "sink": one.name,
        **kind,
        "phase": str(one.phase),
        "backlog_events": backlog(snapshot, one.name),
        "oldest_unacknowledged_seconds": round(oldest_age(snapshot, one.name), 1),
        "last_success": None if last is None else format_us(last),
        "delivered_events": round(snapshot.delivered.get(one.name, 0)),
        "in_flight_batches": one.in_flight,
        "dead_letters": (snapshot.dead_letters or {}).get(one.name, 0),
        "attempts": one.attempts,
        "error": one.error,
        "hint": one.hint,
        "lanes": [
            {"lane": place.lane, "offset": place.progress.prefix, "backlog_events": place.backlog}
            for place in snapshot.places
            if place.sink == one.name
        ],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def gaps_json(
    counted: GapCount, latest: Sequence[Gap], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the gap ledger; ``labels`` are the accounts' names by id."""
    return {
        "total": counted.total,
        "open": counted.open,
        "latest": [_gap_json(gap, labels) for gap in latest],
    }


def letters_json(groups: Sequence[LetterGroup]) -> list[dict[str, Any]]:
    """Return dead letters by sink and reason."""
    return [
        {
            "sink": group.sink,
            "reason": group.reason,
            "events": group.events,
            "latest": format_us(group.latest_us),
        }
        for group in groups
    ]


def tasks_json(tasks: Iterable[TaskState]) -> list[dict[str, Any]]:
    """Return the tasks as /status shows them."""
    return [
        {"task": task.name, "silent_seconds": round(task.silent, 1), "crashes": task.crashes}
        for task in tasks
    ]


def _member_json(one: Member, fleet: FleetState) -> dict[str, Any]:
    shards = [shard.shard for shard in fleet.shards if shard.owner == one.name]
    return {**asdict(one), "shards": shards}


def reloads_json(reloads: Reloads) -> dict[str, Any]:
    """Return how fresh the settings in force are, and what of their file is not in force."""
    refused_us = reloads.refused_us
    return {
        "loaded": format_seconds(reloads.loaded_us),
        "needs_restart": list(reloads.needs_restart),
        "refused": list(reloads.refused),
        "refused_at": None if refused_us is None else format_seconds(refused_us),
    }


def _gap_json(gap: Gap, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "scope": _scope(gap.scope, labels),
        "reason": gap.reason,
        "since": format_us(gap.since_us),
        "until": format_us(gap.until_us),
        "rows": gap.rows,
        "detail": gap.detail,
        "opened": format_us(gap.opened_us),
        "closed": None if gap.closed_us is None else format_us(gap.closed_us),
    }


def _scope(scope: str, labels: Mapping[str, str]) -> str:
    """Return ``account/stream`` with the account's name, or ``sink NAME``."""
    # Scopes of sinks have another form, and a sink may have the name of an account.
    if scope.startswith("sink:"):
        return scope.replace(":", " ", 1)
    return with_name(scope, labels)


def point_of(snapshot: Snapshot, metrics: Metrics) -> Point:
    """Return the point of a snapshot.

    Streams of one name are one series, whatever the number of accounts, so that the hour stays
    small; the worst lag counts.
    """
    levels: dict[Series, float] = {}
    for stream in snapshot.streams:
        covered = stream.covered_until.get(LIVE)
        if covered is not None:
            lag = ("streams", stream.stream, "lag_seconds")
            age = round((snapshot.now_us - covered) / 1_000_000, 1)
            levels[lag] = max(levels.get(lag, 0.0), age)
    for sink in snapshot.sinks:
        levels["sinks", sink.name, "backlog_events"] = backlog(snapshot, sink.name)
        levels["sinks", sink.name, "oldest_seconds"] = round(oldest_age(snapshot, sink.name), 1)
    new, delivered = summed(metrics.rows_new, "stream"), summed(metrics.delivered, "sink")
    totals = {
        **{("streams", name, "new_per_second"): total for name, total in new.items()},
        **{("sinks", name, "delivered_per_second"): total for name, total in delivered.items()},
    }
    return Point(snapshot.now_us / 1_000_000, levels, totals)
