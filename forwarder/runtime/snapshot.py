"""The whole state at one moment, and how /status and the gauges show it. Pure but for ``take``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwarder.core.contracts import LIVE
from forwarder.core.timing import format_us
from forwarder.delivery.state import SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.journal import SinkPlace, Usage
from forwarder.observe import JournalLevels, Levels, SinkLevels, StreamLevels

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
