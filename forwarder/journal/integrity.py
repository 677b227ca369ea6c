"""Is the journal whole? A quick look at every start, a full one on request."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from forwarder.journal.database import CorruptError, translated
from forwarder.journal.pages import PageRow, to_stored

_TABLES = {
    "counter",
    "dead_letter",
    "gap",
    "key_set",
    "lane",
    "memory",
    "page",
    "progress",
    "reader",
    "sink",
    "stream",
}
_NEWEST = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream WHERE body IS NOT NULL
ORDER BY first_offset DESC LIMIT ?
"""
_NEWEST_PAGES = 4
_SMALL_TABLES = ("counter", "key_set", "lane", "memory", "progress", "reader", "sink", "stream")
_STRAYS = """
SELECT 'a sink stands behind the last row' FROM progress, counter WHERE prefix > next_offset
UNION ALL SELECT 'a sink has no place' FROM sink
WHERE NOT EXISTS (SELECT 1 FROM progress WHERE sink = sink.id)
UNION ALL SELECT 'the two copies of a value in table ' || name || ' differ' FROM torn LIMIT 1
"""


def check_quickly(connection: sqlite3.Connection, path: Path) -> None:
    """Look at the schema, every small table, the counters and the newest pages, at every start.

    Costs the same for a small and a large journal. Raises ``DamagedError``.
    """
    with translated(path):
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if not tables >= _TABLES:
            missing = ", ".join(sorted(_TABLES - tables))
            raise CorruptError(f"tables are missing: {missing}")
        highest = connection.execute(
            "SELECT first_offset + count FROM page ORDER BY first_offset DESC LIMIT 1"
        ).fetchone()
        following = connection.execute("SELECT next_offset FROM counter").fetchone()
        if following is None or (highest and highest[0] > following[0]):
            raise CorruptError("the offset counter lies below stored rows")
        for verdict in _small_damages(connection):
            raise CorruptError(verdict)
        for row in connection.execute(_NEWEST, (_NEWEST_PAGES,)):
            _check_page(PageRow(*row))


def check_fully(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    """Yield one sentence for every damage in the whole file; nothing when it is whole."""
    with translated(path):
        for (verdict,) in connection.execute("PRAGMA integrity_check"):
            if verdict != "ok":
                yield verdict
        yield from (verdict for (verdict,) in connection.execute(_STRAYS))
        for row in connection.execute(_NEWEST, (-1,)):
            try:
                _check_page(PageRow(*row))
            except CorruptError as error:
                yield str(error)


def _small_damages(connection: sqlite3.Connection) -> Iterator[str]:
    for table in _SMALL_TABLES:
        for (verdict,) in connection.execute(f"PRAGMA integrity_check({table})"):
            if verdict != "ok":
                yield f"{verdict} (table {table})"
    yield from (verdict for (verdict,) in connection.execute(_STRAYS))


def _check_page(row: PageRow) -> None:
    try:
        page = to_stored(row)
        rows = len(page.rows)
    except ValueError as error:
        raise CorruptError(f"the page at {row.first_offset} is no JSON") from error
    if rows != page.count:
        raise CorruptError(f"the page at {row.first_offset} has {rows} rows, not {page.count}")
