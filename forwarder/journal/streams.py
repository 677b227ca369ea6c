"""Numbers for streams and lanes inside the file."""

from __future__ import annotations

import sqlite3


def stream_id(connection: sqlite3.Connection, account_id: str, stream: str) -> int:
    """Return the stream's number, giving it one inside the writer's transaction if need be."""
    connection.execute(
        "INSERT OR IGNORE INTO stream (account_id, name) VALUES (?, ?)", (account_id, stream)
    )
    return int(
        connection.execute(
            "SELECT id FROM stream WHERE account_id = ? AND name = ?", (account_id, stream)
        ).fetchone()[0]
    )


def lane_id(connection: sqlite3.Connection, lane: str) -> int:
    """Return the number of an existing lane; raises ``LookupError`` for an unknown one."""
    found = connection.execute("SELECT id FROM lane WHERE name = ?", (lane,)).fetchone()
    if found is None:
        raise LookupError(f"there is no lane {lane}")
    return int(found[0])


def next_offset(connection: sqlite3.Connection) -> int:
    """Return the offset that the next row will get."""
    return int(connection.execute("SELECT next_offset FROM counter").fetchone()[0])
