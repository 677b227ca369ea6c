"""The reading side: pages of a lane, ends of lanes, and the queue of one sink."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TypeVar

from forwarder.core.contracts import LIVE, StoredPage
from forwarder.core.log import DeadLetter, Lane, Progress
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal.database import FILE_NAME, Writer, connect_reader, translated
from forwarder.journal.dead_letters import make_room, room, store_letters
from forwarder.journal.events import GapOpened
from forwarder.journal.lanes import read_ranges, save_progress
from forwarder.journal.storage import CorruptError, PageRow, lane_id, next_offset, tail, to_stored

_MOST_FRESH_BYTES = 2**20


class FreshPages:
    """The newest pages, parsed, until they are taken or newer ones need their room.

    Offered after their commit by the event loop, taken by the thread that reads for the sinks,
    which finds them in the file first. So they save work and decide nothing.

    A page that had to go before anybody took it shows that no sink is close behind. Then none is
    held until one looks for the newest: parsed rows that nobody takes only cost room in the
    processor's caches, which makes reading the next ones dearer.
    """

    def __init__(self, most_bytes: int = _MOST_FRESH_BYTES) -> None:
        """Hold pages whose bodies have ``most_bytes`` together."""
        self._most_bytes = most_bytes
        self._held = 0
        self._pages: OrderedDict[int, StoredPage] = OrderedDict()
        self._newest = 0
        self._followed = True
        self._lock = Lock()

    def offer(self, first_offset: int, make: Callable[[], StoredPage | None]) -> None:
        """Hold the page that ``make`` gives, if a sink may come for it; None is no page."""
        with self._lock:
            self._newest = first_offset
            page = make() if self._followed else None
            if page is None:
                return
            self._pages[first_offset] = page
            self._held += len(page.body)
            if self._held > self._most_bytes:
                self._pages.clear()
                self._held, self._followed = 0, False

    def take(self, first_offset: int) -> StoredPage | None:
        """Return the page that starts there and forget it; None for one that is not here."""
        with self._lock:
            page = self._pages.pop(first_offset, None)
            self._held -= len(page.body) if page else 0
            self._followed = self._followed or first_offset >= self._newest
            return page


_MOST_BYTES = 4 * 2**20
_PARSED_BYTES = 2**20


class RecentPages:
    """The pages used last, as many as ``most_bytes`` of bodies; one at least.

    Parsed rows take several times the bytes of their body, so only the pages used last of all, up
    to ``parsed_bytes`` of bodies, keep theirs: whoever is further behind parses them again, which
    costs less than to read the page again. Belongs to the thread that reads for the sinks.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES, parsed_bytes: int = _PARSED_BYTES) -> None:
        """Hold nothing yet."""
        self._whole = _Used(most_bytes)
        self._parsed = _Used(parsed_bytes)

    def get(self, first_offset: int) -> StoredPage | None:
        """Return the page that starts there, if it is still held."""
        page = self._whole.pages.get(first_offset)
        if page is not None:
            self.put(page)
        return page

    def put(self, page: StoredPage) -> None:
        """Hold ``page`` as the one used last."""
        self._whole.use(page)
        for old in self._parsed.use(page):
            old.forget_rows()


class _Used:
    """Pages in the order of their last use, and the bytes of their bodies."""

    def __init__(self, most_bytes: int) -> None:
        self.pages: OrderedDict[int, StoredPage] = OrderedDict()
        self._most_bytes = most_bytes
        self._held = 0

    def use(self, page: StoredPage) -> list[StoredPage]:
        """Count ``page`` as used last; return those that there is no room for any more."""
        if page.first_offset not in self.pages:
            self._held += len(page.body)
        self.pages[page.first_offset] = page
        self.pages.move_to_end(page.first_offset)
        gone = []
        while self._held > self._most_bytes and len(self.pages) > 1:
            gone.append(self.pages.popitem(last=False)[1])
            self._held -= len(gone[-1].body)
        return gone


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


class JournalReader:
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


class LaneEnds:
    """The end of every lane as the event loop knows it; not thread-safe, not durable."""

    def __init__(self) -> None:
        """Know no lane yet."""
        self._ends: dict[str, int] = {}
        self._version = 0
        self._event = asyncio.Event()

    def lane_grew(self, lane: str, end_offset: int) -> None:
        """Say that ``lane`` now has rows below ``end_offset``; called after the commit."""
        if end_offset > self._ends.get(lane, 0):
            self._ends[lane] = end_offset
            self._wake()

    def lanes_changed(self) -> None:
        """Say that lanes were added, ended or cancelled."""
        self._version += 1
        self._wake()

    async def wait(self, lane: str, offset: int) -> None:
        """Return when rows at or above ``offset`` may exist, or the lanes have changed."""
        version = self._version
        while self._ends.get(lane, 0) <= offset and version == self._version:
            await self._event.wait()

    def _wake(self) -> None:
        self._event.set()
        self._event = asyncio.Event()


_LANES = """
SELECT lane.name, progress.prefix, progress.ranges, lane.end_offset
FROM progress JOIN lane ON lane.id = progress.lane
WHERE progress.sink = ? AND lane.state = 'open' ORDER BY lane.id
"""
_FINISH = """
UPDATE lane SET state = 'done' WHERE id = ? AND state = 'open' AND end_offset IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM progress WHERE lane = lane.id AND prefix < lane.end_offset)
"""


class SqliteSinkQueue:
    """Lanes, pages and progress of one sink."""

    def __init__(
        self,
        number: int,
        name: str,
        writer: Writer,
        reader: JournalReader,
        ends: LaneEnds,
        clock: Clock,
        emit: Emit,
    ) -> None:
        """Made by ``Journal.sink_queue``; ``number`` is the sink's in the file."""
        self.name = name
        self._number = number
        self._writer = writer
        self._reader = reader
        self._ends = ends
        self._clock = clock
        self._emit = emit
        self._pages_of: dict[str, int] = {}

    async def lanes(self) -> Sequence[Lane]:
        """Return the open lanes, live first."""
        found = await self._reader.query(
            lambda connection: connection.execute(_LANES, (self._number,)).fetchall()
        )
        return [
            Lane(name, Progress(prefix, read_ranges(ranges)), end)
            for name, prefix, ranges, end in found
        ]

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Return pages from ``offset`` on; empty when there is nothing yet."""
        if lane not in self._pages_of:
            self._pages_of[lane] = await self._reader.query(
                lambda connection: _pages_of(connection, lane)
            )
        return await self._reader.pages(self._pages_of[lane], offset, max_rows)

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Store progress and dead letters together; durable when it returns."""
        now_us = self._clock.now_us()

        def store(connection: sqlite3.Connection) -> tuple[bool, GapOpened | None, int]:
            number = lane_id(connection, lane)
            left = [one for one in dead if one.offset >= _prefix(connection, self._number, number)]
            store_letters(connection, self._number, left, now_us)
            save_progress(connection, self._number, number, progress)
            opened = make_room(connection, self._number, now_us) if left else None
            finished = connection.execute(_FINISH, (number,)).rowcount > 0
            return finished, opened, next_offset(connection)

        finished, opened, end = await self._writer.run(store, patient=True)
        if finished:
            self._ends.lanes_changed()
        if opened is not None:
            # The gap is a row of the forwarder's own, for the sinks to read.
            self._ends.lane_grew(LIVE, end)
            self._emit(opened)

    async def wait(self, lane: str, offset: int) -> None:
        """Return when there may be rows at ``offset``, or the lanes have changed."""
        await self._ends.wait(lane, offset)

    async def dead_letter_room(self) -> tuple[int, int]:
        """Return how many events and bytes the dead letters of this sink still take."""
        return await self._reader.query(lambda connection: room(connection, self._number))


def _prefix(connection: sqlite3.Connection, sink: int, lane: int) -> int:
    """Return where a sink stands; what lies below was dropped, and the gap says so."""
    found = connection.execute(
        "SELECT prefix FROM progress WHERE sink = ? AND lane = ?", (sink, lane)
    ).fetchone()
    return 0 if found is None else int(found[0])


def _pages_of(connection: sqlite3.Connection, lane: str) -> int:
    found = connection.execute("SELECT pages_of FROM lane WHERE name = ?", (lane,)).fetchone()
    if found is None:
        raise LookupError(f"there is no lane {lane}")
    return int(found[0])
