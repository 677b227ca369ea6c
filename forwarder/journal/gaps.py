"""The gap ledger: what was lost is written down, told to the sinks, and never silent."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from forwarder.core.contracts import FORWARDER_STREAM, Lost, Record, StreamKey
from forwarder.core.identity import Identifier
from forwarder.core.own_events import Own, own_row
from forwarder.core.source_contract import Records
from forwarder.journal.events import GapClosed, GapOpened
from forwarder.journal.pages import Place, insert_page
from forwarder.journal.streams import stream_id

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
