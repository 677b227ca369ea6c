"""Reading pages for the sinks: one thread, one read-only connection, a small cache."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from forwarder.core.model import StoredPage
from forwarder.journal.database import FILE_NAME, CorruptError, connect_reader, translated
from forwarder.journal.fresh import FreshPages
from forwarder.journal.pages import PageRow, tail, to_stored
from forwarder.journal.recent import RecentPages

T = TypeVar("T")

_FOLLOWING = """
SELECT first_offset, count FROM page
WHERE lane = :lane AND size > 0 AND first_offset + count > :offset AND first_offset >= coalesce(
    (SELECT max(first_offset) FROM page WHERE lane = :lane AND first_offset <= :offset), 0)
ORDER BY first_offset LIMIT :pages
"""
_PAGE = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream WHERE first_offset = ?
"""
_PASSED_OVER = """
SELECT first_offset FROM page NOT INDEXED
WHERE first_offset >= :start AND first_offset < :end AND lane = :lane AND body IS NOT NULL LIMIT 1
"""
_PAGES_AT_ONCE = 64
_NO_END = 2**63 - 1


class Shelf:
    """Pages by lane and offset. Sinks that move together share the parsed page.

    Pages are found by the index and read from the table. Either may be damaged, so what one of them
    knows and the other does not is an error, never a page less.
    """

    def __init__(self, state_dir: Path, fresh: FreshPages | None = None) -> None:
        """Open the file; raises as ``connect_reader``. ``fresh`` saves reading the newest pages."""
        self._fresh = fresh or FreshPages()
        self._file = state_dir / FILE_NAME
        self._connection = connect_reader(state_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")
        self._recent = RecentPages()

    async def query(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Run a reading function in the thread, on one state of the file.

        Raises ``TransientError`` or ``DamagedError``.
        """

        def ask() -> T:
            with translated(self._file):
                self._connection.execute("BEGIN")
                try:
                    return question(self._connection)
                finally:
                    self._connection.execute("ROLLBACK")

        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    async def pages(self, lane: int, offset: int, max_rows: int) -> list[StoredPage]:
        """Return the pages of ``lane`` from ``offset`` on, at least one, up to ``max_rows`` rows.

        The first may be the tail of a stored page. Empty when there is nothing yet.
        """
        return await self.query(lambda connection: self._read(connection, lane, offset, max_rows))

    async def aclose(self) -> None:
        """Close the connection after the last question; idempotent."""
        await asyncio.to_thread(self._thread.shutdown)
        self._connection.close()

    def _read(
        self, connection: sqlite3.Connection, lane: int, offset: int, max_rows: int
    ) -> list[StoredPage]:
        pages: list[StoredPage] = []
        rows = 0
        found = connection.execute(
            _FOLLOWING, {"lane": lane, "offset": offset, "pages": _PAGES_AT_ONCE}
        ).fetchall()
        expected = offset
        for first, count in found:
            if pages and rows + count > max_rows:
                break
            self._look_between(connection, lane, expected, first)
            page = self._page(connection, first, lane)
            pages.append(tail(page, offset))
            rows += pages[-1].count
            expected = first + count
        if not found:
            self._look_between(connection, lane, offset, _NO_END)
        return pages

    def _look_between(
        self, connection: sqlite3.Connection, lane: int, start: int, end: int
    ) -> None:
        """Raise ``CorruptError`` when the table has a page where the index knows of none."""
        if start >= end:
            return
        place = {"lane": lane, "start": start, "end": end}
        passed = connection.execute(_PASSED_OVER, place).fetchone()
        if passed is not None:
            raise CorruptError(f"the index does not know the stored page at offset {passed[0]}")

    def _page(self, connection: sqlite3.Connection, first_offset: int, lane: int) -> StoredPage:
        """Return one whole page that the index says is in ``lane``."""
        page = self._recent.get(first_offset)
        if page is None:
            page = self._fresh.take(first_offset) or self._stored(connection, first_offset, lane)
            self._recent.put(page)
        return page

    def _stored(self, connection: sqlite3.Connection, first_offset: int, lane: int) -> StoredPage:
        row = connection.execute(_PAGE, (first_offset,)).fetchone()
        if row is None or row[5] != lane or row[-1] is None:
            raise CorruptError(
                f"there is no page at offset {first_offset}, where the index has one"
            )
        return to_stored(PageRow(*row))
