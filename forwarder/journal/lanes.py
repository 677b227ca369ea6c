"""Lanes beside the live one: backfills that grow pages of their own, replays of what is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from forwarder.core.contracts import LIVE
from forwarder.journal.streams import lane_id, next_offset

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
