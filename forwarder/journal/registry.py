"""Sinks in the journal: known by name for ever, numbered, running or orphaned."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from forwarder.core.log import Progress
from forwarder.journal.passed_over import BEFORE_START, Passed, note_passed
from forwarder.journal.sink_queue import read_ranges
from forwarder.journal.streams import next_offset

StartAt = Literal["now", "beginning"]
_LIVE_LANE = 1
_MISSED = """
SELECT coalesce(sum(min(count, first_offset + count - :prefix)), 0),
       coalesce(min(tmin_us), (SELECT min(created_us) FROM sink)),
       coalesce(max(tmax_us), (SELECT max(covered_until_us) FROM reader), 0)
FROM page WHERE lane = :lane AND first_offset + count > :prefix AND first_offset < :kept
"""
_STILL_KNOWN = """
SELECT coalesce(sum(min(first_offset + count, :kept) - max(first_offset, :prefix)), 0)
FROM page WHERE first_offset + count > :prefix AND first_offset < :kept
"""


@dataclass(frozen=True, slots=True)
class SinkPlace:
    """Where a sink stands in one lane.

    ``backlog`` counts the events it has not acknowledged, ``oldest_seen_us`` says when the first
    of them was seen. ``running`` is False for one that the settings no longer name.
    """

    sink: str
    lane: str
    progress: Progress
    backlog: int
    oldest_seen_us: int | None
    running: bool


def join_sink(connection: sqlite3.Connection, name: str, start_at: StartAt, now_us: int) -> int:
    """Return the number of a sink; a new one gets its first place in the live lane."""
    found = connection.execute("SELECT id FROM sink WHERE name = ?", (name,)).fetchone()
    if found:
        return int(found[0])
    (number,) = connection.execute(
        "INSERT INTO sink (name, created_us) VALUES (?, ?) RETURNING id", (name, now_us)
    ).fetchone()
    start = next_offset(connection) if start_at == "now" else _first_kept(connection)
    connection.execute("INSERT INTO progress VALUES (?, ?, ?, '[]')", (number, _LIVE_LANE, start))
    note_passed(connection, number, Passed(_LIVE_LANE, 0, start, BEFORE_START))
    return int(number)


def _first_kept(connection: sqlite3.Connection) -> int:
    """Return the first offset of the live lane whose row is still there."""
    found = connection.execute(
        "SELECT min(first_offset) FROM page WHERE lane = ? AND size > 0", (_LIVE_LANE,)
    ).fetchone()
    return int(found[0]) if found[0] is not None else next_offset(connection)


def missed_rows(connection: sqlite3.Connection, sink: int) -> tuple[int | None, int, int] | None:
    """Return (rows, from, to) that a returning sink can no longer have, or None.

    They were emptied while it was out of the settings; where their pages are gone too nobody can
    say how many there were (rows is None). Moves its place past them.
    """
    prefix, text = connection.execute(
        "SELECT prefix, ranges FROM progress WHERE sink = ? AND lane = ?", (sink, _LIVE_LANE)
    ).fetchone()
    kept = _first_kept(connection)
    if kept <= prefix:
        return None
    place = {"prefix": prefix, "kept": kept, "lane": _LIVE_LANE}
    rows, since_us, until_us = connection.execute(_MISSED, place).fetchone()
    (known,) = connection.execute(_STILL_KNOWN, place).fetchone()
    connection.execute(
        "UPDATE progress SET prefix = ?, ranges = '[]' WHERE sink = ? AND lane = ?",
        (kept, sink, _LIVE_LANE),
    )
    done = read_ranges(text)
    note_passed(connection, sink, Passed(_LIVE_LANE, prefix, kept, "sink_was_removed"), done)
    rows -= sum(max(0, min(end, kept) - start) for start, end in done)
    if known < kept - prefix:
        return None, since_us, until_us
    return (rows, since_us, until_us) if rows > 0 else None


def places(connection: sqlite3.Connection, running: Collection[str]) -> list[SinkPlace]:
    """Return every sink's place in every open lane."""
    found = connection.execute(
        "SELECT sink.name, lane.name, lane.pages_of, prefix, ranges, lane.end_offset "
        "FROM progress JOIN sink ON sink.id = progress.sink JOIN lane ON lane.id = progress.lane "
        "WHERE lane.state = 'open' ORDER BY sink.id, lane.id"
    ).fetchall()
    return [_place(connection, row, name in running) for row in found for name in (row[0],)]


def _place(
    connection: sqlite3.Connection,
    row: Sequence[object],
    running: bool,  # noqa: FBT001
) -> SinkPlace:
    sink, lane, pages_of, prefix, ranges, end = row
    progress = Progress(int(str(prefix)), read_ranges(str(ranges)))
    count, oldest = connection.execute(
        "SELECT coalesce(sum(min(count, first_offset + count - :prefix)), 0), min(seen_us) "
        "FROM page WHERE lane = :lane AND first_offset + count > :prefix AND size > 0 "
        "AND first_offset < coalesce(:end, 9223372036854775807)",
        {"lane": pages_of, "prefix": prefix, "end": end},
    ).fetchone()
    done = sum(b - a for a, b in progress.ranges)
    return SinkPlace(str(sink), str(lane), progress, max(0, count - done), oldest, running)
