"""Rows that a sink's place was moved past without an acknowledgement, and why.

Below a sink's place everything is done; this says what of it was not delivered. An audit asks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal["before_start", "discarded", "replayed", "dropped_oldest", "sink_was_removed"]
BEFORE_START: Reason = "before_start"
"""The rows were stored before the sink began."""
DISCARDED: Reason = "discarded"
"""An operator dropped the sink's dead letters."""
REPLAYED: Reason = "replayed"
"""The dead letters were stored anew in a lane of their own, which is where they count."""
WITH_INTENT = frozenset({BEFORE_START, DISCARDED})

_LANE_OF = """
SELECT lane FROM page WHERE first_offset + count > :offset
AND first_offset = (SELECT max(first_offset) FROM page WHERE first_offset <= :offset)
"""


@dataclass(frozen=True, slots=True)
class Passed:
    """A half-open range of offsets of one lane."""

    lane: int
    start: int
    end: int
    reason: Reason


def note_passed(
    connection: sqlite3.Connection,
    sink: int,
    passed: Passed,
    done: Sequence[tuple[int, int]] = (),
) -> None:
    """Write down a range that a sink will not be given, but for what is ``done`` within it."""
    for start, end in _holes(passed.start, passed.end, done):
        longer = connection.execute(
            "UPDATE passed_over SET end_offset = ? "
            "WHERE sink = ? AND lane = ? AND reason = ? AND end_offset = ?",
            (end, sink, passed.lane, passed.reason, start),
        )
        if not longer.rowcount:
            connection.execute(
                "INSERT OR REPLACE INTO passed_over VALUES (?, ?, ?, ?, ?)",
                (sink, passed.lane, start, end, passed.reason),
            )


def note_letters(
    connection: sqlite3.Connection, sink: int, offsets: Sequence[int], reason: Reason
) -> None:
    """Write down that dead letters of these offsets are none any more."""
    for offset in sorted(offsets):
        lane = connection.execute(_LANE_OF, {"offset": offset}).fetchone()
        if lane is not None:
            note_passed(connection, sink, Passed(lane[0], offset, offset + 1, reason))


def passed_by(connection: sqlite3.Connection, sink: str) -> list[Passed]:
    """Return all that a sink's place was moved past, by lane and offset."""
    found = connection.execute(
        "SELECT lane, from_offset, end_offset, reason FROM passed_over "
        "WHERE sink = (SELECT id FROM sink WHERE name = ?) ORDER BY lane, from_offset",
        (sink,),
    )
    return [Passed(*row) for row in found]


def forget_passed(connection: sqlite3.Connection) -> None:
    """Remove what lies before the oldest page: nobody can ask about those rows any more."""
    connection.execute(
        "DELETE FROM passed_over WHERE end_offset <= "
        "(SELECT coalesce(min(first_offset), (SELECT next_offset FROM counter)) FROM page)"
    )


def _holes(start: int, end: int, done: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what of a range lies in none of the sorted, disjoint ranges ``done``."""
    holes: list[tuple[int, int]] = []
    for a, b in done:
        if start < min(a, end):
            holes.append((start, min(a, end)))
        start = max(start, b)
    return [*holes, (start, end)] if start < end else holes
