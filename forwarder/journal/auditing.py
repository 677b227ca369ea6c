"""What became of rows that the API shows: delivered, dead, waiting or missing, sink by sink."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from forwarder.core.log import Progress
from forwarder.core.model import Record, StreamKey
from forwarder.journal.pages import HOUR_US, buckets, split_hashes
from forwarder.journal.sink_queue import read_ranges
from forwarder.journal.streams import lane_id

_PAGES = """
SELECT first_offset, lane, hashes FROM page WHERE stream = :stream AND timeless = 0
AND tmax_us BETWEEN :low AND :high + :hour AND tmin_us <= :high
"""
_TIMELESS = "SELECT first_offset, lane, hashes FROM page WHERE stream = ? AND timeless = 1"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Rows of one sink: ``shown`` by the API, of them delivered, dead, waiting, missing."""

    shown: int = 0
    delivered: int = 0
    dead: int = 0
    waiting: int = 0
    missing: int = 0

    def plus(self, other: Verdict) -> Verdict:
        """Return both together."""
        return Verdict(
            self.shown + other.shown,
            self.delivered + other.delivered,
            self.dead + other.dead,
            self.waiting + other.waiting,
            self.missing + other.missing,
        )


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
    return {sink: _verdict(connection, sink, places, len(records)) for sink in sinks}


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


def _verdict(
    connection: sqlite3.Connection,
    sink: str,
    places: Mapping[int, Sequence[tuple[int, int]]],
    shown: int,
) -> Verdict:
    progress = _progress(connection, sink)
    dead = {
        offset
        for (offset,) in connection.execute(
            "SELECT offset FROM dead_letter WHERE sink = (SELECT id FROM sink WHERE name = ?)",
            (sink,),
        )
    }
    verdict = Verdict(shown=shown, missing=shown - len(places))
    for at in places.values():
        if any(offset in dead for _, offset in at):
            verdict = replace(verdict, dead=verdict.dead + 1)
        elif any(lane in progress and _done(progress[lane], offset) for lane, offset in at):
            verdict = replace(verdict, delivered=verdict.delivered + 1)
        elif any(lane in progress for lane, _ in at):
            verdict = replace(verdict, waiting=verdict.waiting + 1)
        else:
            verdict = replace(verdict, missing=verdict.missing + 1)
    return verdict


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
