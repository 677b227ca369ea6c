"""The state of the daemon at one moment: probes, /status, gauges and the last hour. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from forwarder.admin.server import Verdict
from forwarder.core.contracts import LIVE
from forwarder.core.errors import TransientError
from forwarder.core.timing import format_us
from forwarder.delivery.state import SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.journal import SinkPlace, Usage
from forwarder.journal.dead_letters import LetterGroup
from forwarder.journal.events import with_name
from forwarder.journal.ledger import Gap, GapCount
from forwarder.observe.levels import JournalLevels, Levels, SinkLevels, StreamLevels
from forwarder.observe.metrics import Metrics, summed
from forwarder.runtime.supervisor import TaskState

_SECOND_US = 1_000_000
_NOTHING = Usage(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that status shows; ``dead_letters`` by sink, ``now_us`` the local wall clock."""

    now_us: int
    streams: Sequence[StreamStatus] = ()
    sinks: Sequence[SinkState] = ()
    places: Sequence[SinkPlace] = ()
    dead_letters: Mapping[str, int] | None = None
    usage: Usage = _NOTHING
    limit: int = 0
    gate_closed: bool = False
    ready: bool = False


def levels_of(snapshot: Snapshot) -> Levels:
    """Return the gauges of a snapshot."""
    return Levels(
        streams=[_stream_levels(one, snapshot.now_us) for one in snapshot.streams],
        sinks=[_sink_levels(one, snapshot) for one in snapshot.sinks],
        journal=JournalLevels(
            undelivered=snapshot.usage.undelivered_bytes,
            stored=snapshot.usage.stored_bytes,
            file=snapshot.usage.file_bytes,
            limit=snapshot.limit,
            gate_closed=snapshot.gate_closed,
            rows=snapshot.usage.stored_rows,
        ),
        ready=snapshot.ready,
    )


def streams_json(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the streams as /status shows them; ages in seconds, times in RFC 3339."""
    return [_stream_json(one, snapshot.now_us) for one in snapshot.streams]


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


def _stream_levels(one: StreamStatus, now_us: int) -> StreamLevels:
    covered = one.covered_until.get(LIVE)
    return StreamLevels(
        account=one.account,
        stream=one.stream,
        covered_until=None if covered is None else covered / _SECOND_US,
        retention_left=one.retention_left_s,
        last_success=_moment(one.success_age_s, now_us),
        held=one.phase == "held",
    )


def _sink_levels(one: SinkState, snapshot: Snapshot) -> SinkLevels:
    last = one.last_success_us
    return SinkLevels(
        sink=one.name,
        backlog_events=backlog(snapshot, one.name),
        oldest_unacknowledged=oldest_age(snapshot, one.name),
        last_success=None if last is None else last / _SECOND_US,
        in_flight=one.in_flight,
        dead_letters=(snapshot.dead_letters or {}).get(one.name, 0),
        held=not one.ready,
    )


def _stream_json(one: StreamStatus, now_us: int) -> dict[str, Any]:
    covered = one.covered_until.get(LIVE)
    trouble = one.trouble
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


def _moment(age: float | None, now_us: int) -> float | None:
    return None if age is None else now_us / _SECOND_US - age


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


_NOT_READY = frozenset({"starting", "held"})


def liveness(tasks: Iterable[TaskState]) -> Verdict:
    """Fail only when a loop is stuck: no outage and no quiet tenant may restart the process."""
    stuck = tuple(
        f"task {task.name} gave no sign of life for {task.silent:.0f} s"
        for task in tasks
        if task.stuck
    )
    return Verdict(not stuck, stuck)


def readiness(
    *,
    started: bool,
    gate_closed: bool,
    journal_trouble: TransientError | None = None,
    streams: Iterable[StreamStatus],
    sinks: Iterable[SinkState],
) -> Verdict:
    """Fail while something starts, while the journal takes nothing, while a person must act.

    A destination that is merely out does not: its events wait, and that is what they are kept for.
    """
    reasons = [] if started else ["the daemon is starting"]
    if gate_closed:
        reasons.append("the journal is full: nothing is read until a sink catches up")
    if journal_trouble is not None:
        reasons.append(f"{journal_trouble} ({journal_trouble.hint})")
    for stream in streams:
        if stream.phase in _NOT_READY:
            trouble = f": {stream.trouble.error}" if stream.trouble else ""
            hint = f" ({stream.trouble.hint})" if stream.trouble and stream.trouble.hint else ""
            about = f"stream {stream.account}/{stream.stream}"
            reasons.append(f"{about} is {stream.phase}{trouble}{hint}")
    for sink in sinks:
        if not sink.ready:
            hint = f" ({sink.hint})" if sink.hint else ""
            reasons.append(f"sink {sink.name} is held: {sink.error}{hint}")
    return Verdict(not reasons, tuple(reasons))


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
    if scope.startswith("sink:"):
        return scope.replace(":", " ", 1)
    return with_name(scope, labels)


INTERVAL = 15.0
_HOUR = 3600.0

Series: TypeAlias = tuple[str, str, str]
"""Group (``streams``, ``sinks``), name, measure."""


@dataclass(frozen=True, slots=True)
class Point:
    """One moment: ``levels`` are shown as they are, ``totals`` as their rate a second."""

    time: float
    levels: Mapping[Series, float]
    totals: Mapping[Series, float]


class History:
    """Keeps the points of an hour."""

    def __init__(self, interval: float = INTERVAL) -> None:
        """Expect a point every ``interval`` seconds."""
        self.interval = interval
        self._points: deque[Point] = deque(maxlen=round(_HOUR / interval) + 1)

    def add(self, point: Point) -> None:
        """Take the newest point; the oldest goes when the hour is full."""
        self._points.append(point)

    def as_json(self) -> dict[str, Any]:
        """Return ``times`` (seconds since 1970) and one list a measure, with None for unknown."""
        points = list(self._points)
        rates = [dict[Series, float](), *(_rates(*two) for two in pairwise(points))]
        values = [{**point.levels, **rate} for point, rate in zip(points, rates, strict=False)]
        found: dict[str, Any] = {"streams": {}, "sinks": {}}
        for group, name, measure in _names(points):
            series = [one.get((group, name, measure)) for one in values]
            found[group].setdefault(name, {})[measure] = series
        times = [round(point.time, 3) for point in points]
        return {"interval_seconds": self.interval, "times": times, **found}


def point_of(snapshot: Snapshot, metrics: Metrics) -> Point:
    """Return the point of a snapshot; streams of one name are one series, the worst lag counts."""
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
    totals = {
        **{
            ("streams", name, "new_per_second"): total
            for name, total in summed(metrics.rows_new, "stream").items()
        },
        **{
            ("sinks", name, "delivered_per_second"): total
            for name, total in summed(metrics.delivered, "sink").items()
        },
    }
    return Point(snapshot.now_us / 1_000_000, levels, totals)


def _rates(before: Point, after: Point) -> dict[Series, float]:
    """Return increases a second; a counter that was not there yet began at zero."""
    seconds = after.time - before.time
    if seconds <= 0:
        return {}
    return {
        series: round(max(0.0, total - before.totals.get(series, 0.0)) / seconds, 3)
        for series, total in after.totals.items()
    }


def _names(points: Sequence[Point]) -> list[Series]:
    """Return every series that some point has, sorted."""
    return sorted({series for point in points for series in (*point.levels, *point.totals)})
