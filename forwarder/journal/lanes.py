"""Lanes, and each sink's place in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from forwarder.core.contracts import LIVE
from forwarder.core.log import Progress
from forwarder.journal.ledger import BEFORE_START, LIVE_LANE, Passed, note_passed
from forwarder.journal.storage import lane_id, next_offset

OPEN, DONE, CANCELLED = "open", "done", "cancelled"


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """A lane as the file has it. ``spec`` is what it was asked to do, ``left`` events a sink."""

    name: str
    state: str
    from_offset: int
    end_offset: int | None
    created_us: int
    spec: Mapping[str, Any]
    sinks: Sequence[str]


def open_backfill(
    connection: sqlite3.Connection,
    name: str,
    spec: Mapping[str, Any],
    sinks: Sequence[int],
    now_us: int,
    *,
    partial: bool,
) -> None:
    """Add a lane that rows will be appended to until ``close_lane``.

    ``partial`` says that some running sink does not read it: then its rows do not count as seen,
    or the live reader would keep them from that sink.
    """
    start = next_offset(connection)
    row = connection.execute(
        "INSERT INTO lane (name, pages_of, from_offset, state, partial, spec, created_us) "
        "VALUES (?, 0, ?, 'open', ?, ?, ?) RETURNING id",
        (name, start, partial, orjson.dumps(spec).decode(), now_us),
    ).fetchone()
    connection.execute("UPDATE lane SET pages_of = id WHERE id = ?", row)
    _join(connection, row[0], sinks, start)


def open_replay(
    connection: sqlite3.Connection,
    name: str,
    spec: Mapping[str, Any],
    sink: int,
    from_offset: int,
    now_us: int,
) -> None:
    """Add a lane over the kept live pages from ``from_offset`` to what is there now."""
    row = connection.execute(
        "INSERT INTO lane (name, pages_of, from_offset, end_offset, state, partial, spec, "
        "created_us) VALUES (?, ?, ?, ?, 'open', 1, ?, ?) RETURNING id",
        (
            name,
            lane_id(connection, LIVE),
            from_offset,
            next_offset(connection),
            orjson.dumps(spec).decode(),
            now_us,
        ),
    ).fetchone()
    _join(connection, row[0], [sink], from_offset)


def _join(connection: sqlite3.Connection, lane: int, sinks: Sequence[int], start: int) -> None:
    connection.executemany(
        "INSERT INTO progress VALUES (?, ?, ?, '[]')", [(sink, lane, start) for sink in sinks]
    )


def close_lane(connection: sqlite3.Connection, name: str) -> None:
    """Say that nothing more will be appended; the lane is done once every sink is through.

    The readers that filled it are called like it and have done their work.
    """
    connection.execute("DELETE FROM reader WHERE name = ?", (name,))
    end = next_offset(connection)
    connection.execute(
        "UPDATE lane SET end_offset = ? WHERE name = ? AND end_offset IS NULL", (end, name)
    )
    connection.execute(
        "UPDATE lane SET state = 'done' WHERE name = ? AND NOT EXISTS "
        "(SELECT 1 FROM progress WHERE lane = lane.id AND prefix < ?)",
        (name, end),
    )


def cancel_lane(connection: sqlite3.Connection, name: str) -> bool:
    """Stop filling and delivering a lane; returns False when it was not open."""
    connection.execute("DELETE FROM reader WHERE name = ? AND name <> 'live'", (name,))
    return (
        connection.execute(
            "UPDATE lane SET state = 'cancelled', end_offset = coalesce(end_offset, ?) "
            "WHERE name = ? AND state = 'open' AND name <> 'live'",
            (next_offset(connection), name),
        ).rowcount
        > 0
    )


def list_lanes(connection: sqlite3.Connection) -> list[LaneRecord]:
    """Return every lane with the names of the sinks that read it."""
    found = connection.execute(
        "SELECT name, state, from_offset, end_offset, created_us, spec, "
        "(SELECT json_group_array(sink.name) FROM progress JOIN sink ON sink.id = progress.sink "
        "WHERE progress.lane = lane.id) FROM lane ORDER BY id"
    )
    return [
        LaneRecord(name, state, start, end, created, orjson.loads(spec), orjson.loads(sinks))
        for name, state, start, end, created, spec, sinks in found
    ]


StartAt = Literal["now", "beginning"]
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
    connection.execute("INSERT INTO progress VALUES (?, ?, ?, '[]')", (number, LIVE_LANE, start))
    note_passed(connection, number, Passed(LIVE_LANE, 0, start, BEFORE_START))
    return int(number)


def _first_kept(connection: sqlite3.Connection) -> int:
    """Return the first offset of the live lane whose row is still there."""
    found = connection.execute(
        "SELECT min(first_offset) FROM page WHERE lane = ? AND size > 0", (LIVE_LANE,)
    ).fetchone()
    return int(found[0]) if found[0] is not None else next_offset(connection)


def missed_rows(connection: sqlite3.Connection, sink: int) -> tuple[int | None, int, int] | None:
    """Return (rows, from, to) that a returning sink can no longer have, or None.

    They were emptied while it was out of the settings; where their pages are gone too nobody can
    say how many there were (rows is None). Moves its place past them.
    """
    prefix, text = connection.execute(
        "SELECT prefix, ranges FROM progress WHERE sink = ? AND lane = ?", (sink, LIVE_LANE)
    ).fetchone()
    kept = _first_kept(connection)
    if kept <= prefix:
        return None
    place = {"prefix": prefix, "kept": kept, "lane": LIVE_LANE}
    rows, since_us, until_us = connection.execute(_MISSED, place).fetchone()
    (known,) = connection.execute(_STILL_KNOWN, place).fetchone()
    connection.execute(
        "UPDATE progress SET prefix = ?, ranges = '[]' WHERE sink = ? AND lane = ?",
        (kept, sink, LIVE_LANE),
    )
    done = read_ranges(text)
    note_passed(connection, sink, Passed(LIVE_LANE, prefix, kept, "sink_was_removed"), done)
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


def read_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Return the half-open ranges of a stored progress."""
    return tuple((start, end) for start, end in orjson.loads(text))


def save_progress(connection: sqlite3.Connection, sink: int, lane: int, progress: Progress) -> None:
    """Store how far a sink is; never moves back behind what retention had to drop."""
    connection.execute(
        "UPDATE progress SET prefix = max(prefix, ?), ranges = ? WHERE sink = ? AND lane = ?",
        (progress.prefix, orjson.dumps(progress.ranges).decode(), sink, lane),
    )
