"""What was lost: the gap ledger, and the offsets that a sink was moved past."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from forwarder.core.contracts import FORWARDER_STREAM, Lost, Record, StreamKey
from forwarder.core.identity import Identifier
from forwarder.core.own_events import Own, own_row
from forwarder.core.source_contract import Records
from forwarder.journal.events import GapClosed, GapOpened
from forwarder.journal.storage import Place, insert_page, stream_id

Reason = Literal[
    "before_start",
    "discarded",
    "replayed",
    "dropped_oldest",
    "expected_refusals",
    "sink_was_removed",
]
BEFORE_START: Reason = "before_start"
"""The rows were stored before the sink began."""
DISCARDED: Reason = "discarded"
"""An operator dropped the sink's dead letters."""
REPLAYED: Reason = "replayed"
"""The dead letters were stored anew in a lane of their own, which is where they count."""
EXPECTED_REFUSALS: Reason = "expected_refusals"
"""The oldest dead letters that the sink had expected to be refused made room for newer ones."""
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


LIVE_LANE = 1
_LEDGER = """
SELECT id, scope, reason, since_us, until_us, rows, detail, opened_us, closed_us
FROM gap ORDER BY opened_us, id
"""
_LATEST = """
SELECT id, scope, reason, since_us, until_us, rows, detail, opened_us, closed_us
FROM gap ORDER BY closed_us IS NOT NULL, id DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Gap:
    """One record of the ledger; ``closed_us`` is None while more may be added to it."""

    id: int
    scope: str
    reason: str
    since_us: int
    until_us: int
    rows: int | None
    detail: str
    opened_us: int
    closed_us: int | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose loss it is: a stream of an account, or a sink."""

    account_id: str = ""
    stream: str = ""
    sink: str = ""

    def __str__(self) -> str:
        """Return the key of the ledger: ``account/stream`` or ``sink:NAME``."""
        return f"sink:{self.sink}" if self.sink else f"{self.account_id}/{self.stream}"


def note_loss(
    connection: sqlite3.Connection, scope: Scope, lost: Lost, now_us: int
) -> GapOpened | None:
    """Widen the open record of this scope and reason, or open one and tell the sinks.

    Returns what to report once the transaction is committed: None when a record was widened.
    """
    widened = connection.execute(
        "UPDATE gap SET since_us = min(since_us, ?), until_us = max(until_us, ?), "
        "rows = CASE WHEN rows IS NULL AND ? IS NULL THEN NULL "
        "ELSE coalesce(rows, 0) + coalesce(?, 0) END "
        "WHERE scope = ? AND reason = ? AND closed_us IS NULL",
        (lost.since_us, lost.until_us, lost.rows, lost.rows, str(scope), lost.reason),
    )
    if widened.rowcount or _is_known(connection, scope, lost):
        return None
    connection.execute(
        "INSERT INTO gap (scope, reason, since_us, until_us, rows, detail, opened_us) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            str(scope),
            lost.reason,
            lost.since_us,
            lost.until_us,
            lost.rows,
            lost.detail,
            now_us,
        ),
    )
    _tell(connection, Own.GAP_OPENED, scope, lost, now_us)
    return GapOpened(str(scope), lost.reason, lost.since_us, lost.until_us, lost.rows, lost.detail)


def _is_known(connection: sqlite3.Connection, scope: Scope, lost: Lost) -> bool:
    """Say whether a closed record covers a loss that nobody can count: it was read once more."""
    found = connection.execute(
        "SELECT 1 FROM gap WHERE scope = ? AND reason = ? AND since_us <= ? AND until_us >= ?",
        (str(scope), lost.reason, lost.since_us, lost.until_us),
    ).fetchone()
    return lost.rows is None and found is not None


def close_gaps(
    connection: sqlite3.Connection, scope: Scope, now_us: int, reasons: Sequence[str] = ()
) -> list[GapClosed]:
    """Close the open records of a scope (of some reasons, or all) and tell the sinks."""
    closed = connection.execute(
        "UPDATE gap SET closed_us = ? WHERE scope = ? AND closed_us IS NULL "
        "AND (? OR reason IN (SELECT value FROM json_each(?))) "
        "RETURNING reason, since_us, until_us, rows, detail",
        (now_us, str(scope), not reasons, orjson.dumps(list(reasons)).decode()),
    ).fetchall()
    for reason, since_us, until_us, rows, detail in closed:
        _tell(
            connection,
            Own.GAP_CLOSED,
            scope,
            Lost(reason, since_us, until_us, rows, detail),
            now_us,
        )
    return [GapClosed(str(scope), row[0], row[3]) for row in closed]


@dataclass(frozen=True, slots=True)
class GapCount:
    """How many records the ledger has, and how many of them are open."""

    total: int
    open: int


def count_gaps(connection: sqlite3.Connection) -> GapCount:
    """Return the size of the ledger."""
    return GapCount(
        *connection.execute("SELECT count(*), count(*) - count(closed_us) FROM gap").fetchone()
    )


def latest_gaps(connection: sqlite3.Connection, limit: int) -> list[Gap]:
    """Return open records, then the freshest closed ones, at most ``limit``."""
    return [Gap(*row) for row in connection.execute(_LATEST, (limit,))]


def list_gaps(connection: sqlite3.Connection) -> list[Gap]:
    """Return the whole ledger, oldest first."""
    return [Gap(*row) for row in connection.execute(_LEDGER)]


def _tell(
    connection: sqlite3.Connection, event: Own, scope: Scope, lost: Lost, now_us: int
) -> None:
    row = own_row(
        event,
        now_us,
        stream=StreamKey(scope.account_id, scope.stream) if scope.stream else None,
        sink=scope.sink,
        reason=lost.reason,
        since_us=lost.since_us,
        until_us=lost.until_us,
        rows=lost.rows,
        detail=lost.detail,
    )
    append_own(connection, scope.account_id, [row], now_us)


def append_own(
    connection: sqlite3.Connection,
    account_id: str,
    rows: Sequence[Mapping[str, Any]],
    now_us: int,
) -> int | None:
    """Store events of the forwarder's own; return the end offset, None for no rows."""
    if not rows:
        return None
    identities = Identifier(account_id, FORWARDER_STREAM).identities(rows)
    records = [
        Record(orjson.dumps(row), now_us, identity, frozenset(row))
        for row, identity in zip(rows, identities, strict=True)
    ]
    place = Place(stream_id(connection, account_id, FORWARDER_STREAM), LIVE_LANE, now_us)
    return insert_page(connection, place, Records.of(records))[1]
