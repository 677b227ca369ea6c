"""What became of rows that the API shows: delivered, dead, waiting or missing, sink by sink."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from forwarder.core.contracts import Record, StreamKey
from forwarder.core.log import Progress
from forwarder.journal.lanes import read_ranges
from forwarder.journal.ledger import WITH_INTENT, Passed, passed_by
from forwarder.journal.retention import forgotten_until
from forwarder.journal.storage import HOUR_US, buckets, lane_id, split_hashes

Fate = Literal["delivered", "dead", "waiting", "skipped", "forgotten", "missing"]

_PAGES = """
SELECT first_offset, lane, hashes FROM page WHERE stream = :stream AND timeless = 0
AND tmax_us BETWEEN :low AND :high + :hour AND tmin_us <= :high
"""
_ORDER = ("dead", "delivered", "waiting", "skipped", "missing")
"""Which fate counts for a row that is stored at several places."""
_TIMELESS = "SELECT first_offset, lane, hashes FROM page WHERE stream = ? AND timeless = 1"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the rows that the API has ``shown``, for one sink.

    ``delivered``: acknowledged, or left out by the sink's own filters. ``dead``: in its dead
    letters. ``waiting``: stored and still to come. ``skipped``: with intent, since they were stored
    before the sink began, or an operator discarded them from its dead letters. ``forgotten``: of a
    time that the journal keeps no identities of any more, so that nobody can say. ``missing``: the
    rest, lost rows among them; their earliest and latest times are ``first_missing_us`` and
    ``last_missing_us``.
    """

    shown: int = 0
    delivered: int = 0
    dead: int = 0
    waiting: int = 0
    skipped: int = 0
    forgotten: int = 0
    missing: int = 0
    first_missing_us: int | None = None
    last_missing_us: int | None = None

    def plus(self, other: Verdict) -> Verdict:
        """Return both together."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        first = [at for v in (self, other) if (at := v.first_missing_us) is not None]
        last = [at for v in (self, other) if (at := v.last_missing_us) is not None]
        return Verdict(
            **counts,
            first_missing_us=min(first, default=None),
            last_missing_us=max(last, default=None),
        )


COUNTS = ("shown", "delivered", "dead", "waiting", "skipped", "forgotten", "missing")


def judge(
    connection: sqlite3.Connection,
    key: StreamKey,
    records: Sequence[Record],
    aliases: Mapping[int, Sequence[bytes]],
    sinks: Collection[str],
) -> dict[str, Verdict]:
    """Return a verdict a sink over the rows of one page that the API shows."""
    found = connection.execute(
        "SELECT id FROM stream WHERE account_id = ? AND name = ?", (key.account_id, key.stream)
    ).fetchone()
    places = {} if found is None else _places(connection, int(found[0]), records, aliases)
    forgotten_us = forgotten_until(connection, key)
    unknown = [_unknown(record.time_us, forgotten_us) for record in records]
    times_us = [record.time_us for record in records]
    verdicts = {}
    for sink in sinks:
        fate = _fates(connection, sink)
        fates = [fate(places.get(at, ()), unknown[at]) for at in range(len(records))]
        verdicts[sink] = _counted(fates, times_us)
    return verdicts


def _places(
    connection: sqlite3.Connection,
    stream: int,
    records: Sequence[Record],
    aliases: Mapping[int, Sequence[bytes]],
) -> dict[int, list[tuple[int, int]]]:
    """Return, by record index, every (lane, offset) where the row is stored."""
    places: dict[int, list[tuple[int, int]]] = {}
    times_us = [record.time_us for record in records]
    for bucket, indices in buckets(times_us, range(len(records))).items():
        stored = _stored(connection, stream, records, None if bucket is None else indices)
        for index in indices:
            names = (records[index].identity, *aliases.get(index, ()))
            at = [place for name in names for place in stored.get(name, ())]
            if at:
                places[index] = at
    return places


def _stored(
    connection: sqlite3.Connection,
    stream: int,
    records: Sequence[Record],
    indices: Sequence[int] | None,
) -> dict[bytes, list[tuple[int, int]]]:
    if indices is None:
        found = connection.execute(_TIMELESS, (stream,))
    else:
        times = [records[index].time_us or 0 for index in indices]
        bounds = {"low": min(times), "high": max(times), "hour": HOUR_US}
        found = connection.execute(_PAGES, {"stream": stream, **bounds})
    stored: dict[bytes, list[tuple[int, int]]] = {}
    for first, lane, hashes in found:
        for index, identity in enumerate(split_hashes(hashes)):
            stored.setdefault(identity, []).append((lane, first + index))
    return stored


def _unknown(time_us: int | None, forgotten_us: int | None) -> Fate:
    """Return the fate of a row that is not stored; one without a time may be of any."""
    if forgotten_us is None or (time_us is not None and time_us > forgotten_us):
        return "missing"
    return "forgotten"


def _fates(
    connection: sqlite3.Connection, sink: str
) -> Callable[[Sequence[tuple[int, int]], Fate], Fate]:
    """Return what says of a row, by its places, what became of it for a sink."""
    progress, passed = _progress(connection, sink), passed_by(connection, sink)
    dead = {
        offset
        for (offset,) in connection.execute(
            "SELECT offset FROM dead_letter WHERE sink = (SELECT id FROM sink WHERE name = ?)",
            (sink,),
        )
    }

    def at(lane: int, offset: int) -> Fate:
        if offset in dead:
            return "dead"
        over = passed[bisect_right(passed, (lane, offset), key=_place) - 1 :][:1]
        if over and over[0].lane == lane and over[0].start <= offset < over[0].end:
            return "skipped" if over[0].reason in WITH_INTENT else "missing"
        if lane not in progress:
            return "missing"
        return "delivered" if _done(progress[lane], offset) else "waiting"

    def fate(places: Sequence[tuple[int, int]], unknown: Fate) -> Fate:
        return min((at(*place) for place in places), key=_ORDER.index, default=unknown)

    return fate


def _place(passed: Passed) -> tuple[int, int]:
    return passed.lane, passed.start


def _counted(fates: Sequence[Fate], times_us: Sequence[int | None]) -> Verdict:
    lost = [time_us for time_us, fate in zip(times_us, fates, strict=True) if fate == "missing"]
    timed = [time_us for time_us in lost if time_us is not None]
    return Verdict(
        shown=len(fates),
        **Counter[str](fates),
        first_missing_us=min(timed, default=None),
        last_missing_us=max(timed, default=None),
    )


def _progress(connection: sqlite3.Connection, sink: str) -> dict[int, Progress]:
    found = connection.execute(
        "SELECT lane.name, prefix, ranges FROM progress JOIN lane ON lane.id = progress.lane "
        "WHERE sink = (SELECT id FROM sink WHERE name = ?) AND lane.state <> 'cancelled'",
        (sink,),
    ).fetchall()
    return {
        lane_id(connection, name): Progress(prefix, read_ranges(ranges))
        for name, prefix, ranges in found
    }


def _done(progress: Progress, offset: int) -> bool:
    return offset < progress.prefix or any(a <= offset < b for a, b in progress.ranges)
