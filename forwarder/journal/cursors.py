"""Positions as an operator sees and moves them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from forwarder.core.contracts import LIVE, Lost, StreamKey
from forwarder.core.errors import StateError
from forwarder.journal.gaps import Scope, close_gaps, note_loss

MOVED = "cursor_moved"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader of a stream is; ``reading_until_us`` when a round is under way."""

    account_id: str
    stream: str
    reader: str
    covered_until_us: int
    reading_until_us: int | None
    rows: int


def list_cursors(connection: sqlite3.Connection) -> list[Cursor]:
    """Return every reader of every stream, the younger age first."""
    found = connection.execute(
        "SELECT account_id, stream.name, reader.name, covered_until_us, until_us, rows "
        "FROM reader JOIN stream ON stream.id = reader.stream ORDER BY 1, 2, length(reader.name), 3"
    )
    return [Cursor(*row) for row in found]


def move_cursor(connection: sqlite3.Connection, key: StreamKey, to_us: int, now_us: int) -> Cursor:
    """Set the live position of a stream; rows that are jumped over go to the gap ledger.

    Moving it back is harmless: what was seen is not delivered again. Raises ``StateError`` for a
    stream that the journal does not know. The daemon must not be reading the stream meanwhile.
    """
    found = connection.execute(
        "SELECT stream.id, covered_until_us FROM reader JOIN stream ON stream.id = reader.stream "
        "WHERE account_id = ? AND stream.name = ? AND reader.name = ?",
        (key.account_id, key.stream, LIVE),
    ).fetchone()
    if found is None:
        raise StateError(f"the journal knows no stream {key}; `forwarder cursors list` shows all")
    stream, from_us = found
    connection.execute(
        "UPDATE reader SET covered_until_us = ?, since_us = NULL, until_us = NULL, "
        "position = NULL, reached_us = NULL WHERE stream = ? AND name = ?",
        (to_us, stream, LIVE),
    )
    connection.execute(
        "UPDATE reader SET covered_until_us = max(covered_until_us, ?), since_us = NULL, "
        "until_us = NULL, position = NULL, reached_us = NULL "
        "WHERE stream = ? AND name LIKE 'reconcile:%' AND ?",
        (to_us, stream, to_us > from_us),
    )
    if to_us > from_us:
        scope = Scope(account_id=key.account_id, stream=key.stream)
        lost = Lost(MOVED, from_us, to_us, None, "an operator moved the cursor forward")
        note_loss(connection, scope, lost, now_us)
        close_gaps(connection, scope, now_us, [MOVED])
    return Cursor(key.account_id, key.stream, LIVE, to_us, None, 0)
