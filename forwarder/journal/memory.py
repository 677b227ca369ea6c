"""Small JSON values that outlive the process, by scope and key."""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson


def recall(connection: sqlite3.Connection, scope: str, key: str) -> Any | None:
    """Return the JSON value kept under a scope and key, or None."""
    found = connection.execute(
        "SELECT value FROM memory WHERE scope = ? AND key = ?", (scope, key)
    ).fetchone()
    return None if found is None else orjson.loads(found[0])


def keep(connection: sqlite3.Connection, scope: str, key: str, value: Any) -> None:
    """Store a JSON value under a scope and key."""
    connection.execute(
        "INSERT OR REPLACE INTO memory VALUES (?, ?, ?)",
        (scope, key, orjson.dumps(value).decode()),
    )
