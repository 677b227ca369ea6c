"""What is kept and what goes: bodies after delivery, identities after readers and audits.

A page goes in two steps. Its body is emptied when every sink that counts has passed it and
``keep_delivered`` is over, or sooner when space is needed. The page itself, with its identities,
goes when no reader can be shown its rows again and a day's audit is over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from forwarder.core.contracts import Lost, StreamKey
from forwarder.core.telemetry import TelemetryEvent
from forwarder.journal.events import JournalPruned, RowsDropped
from forwarder.journal.lanes import read_ranges
from forwarder.journal.ledger import (
    Passed,
    Scope,
    close_gaps,
    forget_passed,
    note_loss,
    note_passed,
)
from forwarder.journal.storage import keep, recall

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_AUDITED_US = 26 * _HOUR_US
"""Identities stay at least so long behind the newest reader: a day can be verified at leisure."""
_CHUNK = 500
_RESERVE = 0.05

DROPPED = "dropped_oldest"
_FORGOTTEN = "forgotten_until_us"


@dataclass(frozen=True, slots=True)
class Keeping:
    """The bounds: bytes of stored bodies, microseconds to keep what is delivered."""

    max_size: int
    keep_delivered_us: int

    @property
    def room(self) -> int:
        """Return the bytes for rows; the rest is for acknowledgements, gaps, dead letters."""
        return int(self.max_size * (1 - _RESERVE))


@dataclass(frozen=True, slots=True)
class Member:
    """A sink that runs now: its number, its name, and whether it may hold the gate."""

    number: int
    name: str
    blocking: bool


_HELD = """
SELECT lane.pages_of, min(progress.prefix) FROM progress JOIN lane ON lane.id = progress.lane
WHERE lane.state = 'open' AND progress.sink IN (SELECT value FROM json_each(?))
GROUP BY lane.pages_of
"""


def held_from(connection: sqlite3.Connection, sinks: Sequence[int]) -> dict[int, int]:
    """Return, for each lane, the lowest offset that one of these sinks still needs."""
    found = connection.execute(_HELD, (str(list(sinks)),))
    return {int(lane): int(prefix) for lane, prefix in found}


def undelivered_bytes(connection: sqlite3.Connection, members: Sequence[Member]) -> int:
    """Return the bytes of bodies that a blocking sink still needs: what the gate measures."""
    blocking = [member.number for member in members if member.blocking]
    total = 0
    for lane, offset in held_from(connection, blocking).items():
        total += connection.execute(
            "SELECT coalesce(sum(size), 0) FROM page WHERE lane = ? AND first_offset + count > ?",
            (lane, offset),
        ).fetchone()[0]
    return total


def stored_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes of all bodies in the file."""
    return int(connection.execute("SELECT coalesce(sum(size), 0) FROM page").fetchone()[0])


def stored_rows(connection: sqlite3.Connection) -> int:
    """Return the number of rows whose bodies are in the file."""
    found = connection.execute("SELECT coalesce(sum(count), 0) FROM page WHERE size > 0")
    return int(found.fetchone()[0])


def prune(
    connection: sqlite3.Connection, members: Sequence[Member], keeping: Keeping, now_us: int
) -> list[TelemetryEvent]:
    """Empty, drop and remove one portion of what need not be kept; called every few seconds.

    Runs inside a writer's transaction. Returns what to report once it is committed.
    """
    excess = stored_bytes(connection) - keeping.room
    emptied, freed = _empty_delivered(connection, members, excess, now_us, keeping)
    dropped = _drop_oldest(connection, members, excess - freed, now_us)
    removed = _remove_forgotten(connection, now_us, keeping)
    happenings: list[TelemetryEvent] = list(dropped)
    if emptied or removed:
        happenings.append(JournalPruned(emptied, removed, freed))
    return happenings


def _candidates(
    connection: sqlite3.Connection, held: dict[int, int], seen_before_us: int
) -> list[tuple[int, int]]:
    """Return (first offset, size) of stored bodies that nobody in ``held`` needs, oldest first."""
    found = connection.execute(
        "SELECT first_offset, size, lane, first_offset + count FROM page "
        "WHERE size > 0 AND seen_us < ? ORDER BY first_offset LIMIT ?",
        (seen_before_us, _CHUNK),
    )
    return [(first, size) for first, size, lane, end in found if end <= held.get(lane, end)]


def _empty_delivered(
    connection: sqlite3.Connection,
    members: Sequence[Member],
    excess: int,
    now_us: int,
    keeping: Keeping,
) -> tuple[int, int]:
    """Empty what every running sink has passed and that is old enough, or in the way."""
    held = held_from(connection, [member.number for member in members])
    old = _candidates(connection, held, now_us - keeping.keep_delivered_us)
    chosen = dict(old)
    freed = sum(chosen.values())
    if freed < excess:
        for first, size in _candidates(connection, held, now_us + _DAY_US):
            if freed >= excess:
                break
            if first not in chosen:
                chosen[first] = size
                freed += size
    _empty(connection, list(chosen))
    return len(chosen), freed


def _drop_oldest(
    connection: sqlite3.Connection, members: Sequence[Member], excess: int, now_us: int
) -> list[TelemetryEvent]:
    """Make room at the cost of best-effort sinks, never of what a blocking sink holds."""
    best_effort = [member for member in members if not member.blocking]
    if not best_effort:
        return []
    held = held_from(connection, [m.number for m in members if m.blocking])
    chosen: list[int] = []
    for first, size in _candidates(connection, held, now_us + _DAY_US) if excess > 0 else ():
        if excess <= 0:
            break
        chosen.append(first)
        excess -= size
    happenings: list[TelemetryEvent] = []
    for member in best_effort:
        happenings += _pass_over(connection, member, chosen, now_us)
    _empty(connection, chosen)
    return happenings


def _pass_over(
    connection: sqlite3.Connection, member: Member, pages: Sequence[int], now_us: int
) -> list[TelemetryEvent]:
    """Move a best-effort sink past dropped pages and write down what it did not get."""
    scope = Scope(sink=member.name)
    rows, since_us, until_us = 0, now_us, 0
    for first in pages:
        count, lane, tmin_us, tmax_us = connection.execute(
            "SELECT count, lane, tmin_us, tmax_us FROM page WHERE first_offset = ?", (first,)
        ).fetchone()
        prefix, done = connection.execute(
            "SELECT coalesce(min(prefix), ?), ranges FROM progress WHERE sink = ? AND lane = ?",
            (first + count, member.number, lane),
        ).fetchone()
        missed = min(count, first + count - prefix)
        if missed > 0:
            rows, since_us = rows + missed, min(since_us, tmin_us)
            until_us = max(until_us, tmax_us)
            passed = Passed(lane, prefix, first + count, "dropped_oldest")
            note_passed(connection, member.number, passed, read_ranges(done))
            connection.execute(
                "UPDATE progress SET prefix = ? WHERE sink = ? AND lane = ?",
                (first + count, member.number, lane),
            )
    if not rows:
        return list(close_gaps(connection, scope, now_us, [DROPPED]))
    lost = Lost(DROPPED, since_us, until_us, rows, "the journal was full")
    opened = note_loss(connection, scope, lost, now_us)
    return [RowsDropped(member.name, rows), *([opened] if opened else [])]


def _empty(connection: sqlite3.Connection, pages: Sequence[int]) -> None:
    connection.executemany(
        "UPDATE page SET size = 0, body = NULL WHERE first_offset = ?", [(p,) for p in pages]
    )


def _remove_forgotten(connection: sqlite3.Connection, now_us: int, keeping: Keeping) -> int:
    """Remove emptied pages whose rows no reader can be shown, nor an audit of a day ask about.

    Judged by the rows' own times against the readers' places, both the server's; our clock, which
    may be wrong, decides only where there is no such time: a page without times, and one dated
    more than a day ahead of every reader, go two days after they were seen.
    """
    found = connection.execute(
        "SELECT stream, min(covered_until_us), max(covered_until_us) FROM reader GROUP BY stream"
    ).fetchall()
    removed = 0
    for stream, slowest_us, newest_us in found:
        unread = min(slowest_us - 2 * _HOUR_US, newest_us - _AUDITED_US)
        bound = min(unread, now_us - keeping.keep_delivered_us)
        times_us = connection.execute(
            "DELETE FROM page WHERE first_offset IN (SELECT first_offset FROM page "
            "WHERE stream = :stream AND size = 0 AND CASE "
            "WHEN timeless = 1 OR tmax_us > :ahead THEN seen_us + :grace ELSE tmax_us END < :bound "
            "ORDER BY first_offset LIMIT :chunk) RETURNING tmax_us",
            {
                "stream": stream,
                "ahead": newest_us + _DAY_US,
                "grace": 2 * _DAY_US,
                "bound": bound,
                "chunk": _CHUNK,
            },
        ).fetchall()
        removed += len(times_us)
        _note_forgotten(connection, stream, [at for (at,) in times_us if at < bound])
    if removed:
        forget_passed(connection)
    return removed


def forgotten_until(connection: sqlite3.Connection, key: StreamKey) -> int | None:
    """Return up to when a stream's rows may have been forgotten, None as long as all are known."""
    found: int | None = recall(connection, str(key), _FORGOTTEN)
    return found


def _note_forgotten(connection: sqlite3.Connection, stream: int, times_us: Sequence[int]) -> None:
    """Keep the latest time of the pages that went; wrong times in the future say nothing."""
    key = StreamKey(
        *connection.execute(
            "SELECT account_id, name FROM stream WHERE id = ?", (stream,)
        ).fetchone()
    )
    latest = max((*times_us, forgotten_until(connection, key) or 0))
    if times_us:
        keep(connection, str(key), _FORGOTTEN, latest)
