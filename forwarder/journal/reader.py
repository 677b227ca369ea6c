"""The reading side: pages of a lane, ends of lanes, and the queue of one sink."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

from forwarder.core.contracts import LIVE, StoredPage
from forwarder.core.errors import TransientError
from forwarder.core.journal import GapOpened, Keeping
from forwarder.core.log import DeadLetter, Lane, Progress
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal.dead_letters import acknowledge, room
from forwarder.journal.lanes import NO_END, lanes_of
from forwarder.journal.storage import (
    MOST_RAW,
    CorruptError,
    Engine,
    PageRow,
    Session,
    next_offset,
    to_stored,
)
from forwarder.journal.writer import Writer

T = TypeVar("T")

_FOLLOWING = """
SELECT first_offset, count FROM page
WHERE lane = :lane AND size > 0 AND first_offset + count > :start AND first_offset >= coalesce(
    (SELECT max(first_offset) FROM page WHERE lane = :lane AND first_offset <= :start), 0)
ORDER BY first_offset LIMIT :pages
"""
_PAGE = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream WHERE first_offset = ?
"""
# The plus sign keeps SQLite from using the index by lane: this asks the table what the index says.
_NOT_IN_INDEX = """
SELECT first_offset FROM page WHERE first_offset >= :start AND first_offset < :until
AND +lane = :lane AND body IS NOT NULL LIMIT 1
"""
_PAGES_AT_ONCE = 64
# Of bodies; parsed, they take about eight times as much.
_MOST_BYTES = 2**20


class PageCache:
    """The pages stored or read last, parsed, as many as ``most_bytes`` of bodies; one at least.

    A sink close behind the reader, and sinks that move together, then neither read nor parse a
    page again. Parsed rows take several times the bytes of their body, hence the small bound.
    Offered to by the event loop after the commit, used by the reading thread.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        """Hold nothing yet."""
        self._most_bytes = most_bytes
        self._held = 0
        self._pages: dict[int, StoredPage] = {}
        self._untaken: set[int] = set()
        self._newest = 0
        self._followed = True
        self._lock = Lock()

    def get(self, first_offset: int) -> StoredPage | None:
        """Return the page that starts there, if it is held."""
        with self._lock:
            self._untaken.discard(first_offset)
            self._followed = self._followed or first_offset >= self._newest
            return self._pages.get(first_offset)

    def offer(self, page: StoredPage) -> None:
        """Hold a page that was just stored, if a sink is close enough behind to come for it.

        A page that must go before anybody took it shows that none is. Then no page is held until
        a sink asks for the newest: parsed rows that nobody takes cost memory and time.
        """
        with self._lock:
            self._newest = page.first_offset
            if self._followed:
                self._untaken.add(page.first_offset)
                self._put(page)
            while not self._followed and self._untaken:
                self._drop(self._untaken.pop())

    def put(self, page: StoredPage) -> None:
        """Hold ``page``, which was just read."""
        with self._lock:
            self._put(page)

    def _put(self, page: StoredPage) -> None:
        self._drop(page.first_offset)
        self._pages[page.first_offset] = page
        self._held += len(page.body)
        while self._held > self._most_bytes and len(self._pages) > 1:
            oldest = next(iter(self._pages))
            self._followed = self._followed and oldest not in self._untaken
            self._untaken.discard(oldest)
            self._drop(oldest)

    def _drop(self, first_offset: int) -> None:
        page = self._pages.pop(first_offset, None)
        self._held -= len(page.body) if page else 0


class LaneEnds:
    """The end of every lane as the event loop knows it; not thread-safe, not durable."""

    def __init__(self) -> None:
        """Know no lane yet."""
        self._ends: dict[str, int] = {}
        self._version = 0
        self._event = asyncio.Event()

    def lane_grew(self, lane: str, end_offset: int) -> None:
        """Note that ``lane`` now has rows below ``end_offset``; called after the commit."""
        if end_offset > self._ends.get(lane, 0):
            self._ends[lane] = end_offset
            self._wake()

    def lanes_changed(self) -> None:
        """Note that lanes were added, ended or cancelled."""
        self._version += 1
        self._wake()

    async def wait(self, lane: str, offset: int) -> None:
        """Return when rows at or above ``offset`` may exist, or the lanes have changed."""
        version = self._version
        while self._ends.get(lane, 0) <= offset and version == self._version:
            await self._event.wait()

    def _wake(self) -> None:
        # Whoever waits holds the old event, so a wake-up between two waits is not lost.
        self._event.set()
        self._event = asyncio.Event()


class JournalReader:
    """Answers questions in a thread of its own, each on one state of the journal."""

    def __init__(self, engine: Engine, cache: PageCache | None = None) -> None:
        """Open a reading session; raises as the engine does."""
        self._engine = engine
        self._session = engine.reading()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-reader")
        self._cache = cache or PageCache()

    async def query(self, question: Callable[[Session], T]) -> T:
        """Run a reading function; raises ``TransientError`` or ``DamagedError``."""

        def ask() -> T:
            with self._engine.translated():
                self._session.begin_reading()
                try:
                    return question(self._session)
                finally:
                    self._session.rollback()

        # One thread: its session must not be used by two at a time, and sinks share the cache.
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._thread, ask)
        except RuntimeError as error:  # the thread is gone
            raise TransientError("the journal is closed") from error
        return await answer

    async def pages(self, lane: str, offset: int, max_rows: int) -> list[StoredPage]:
        """Return the pages of ``lane`` from ``offset`` on, at least one, up to ``max_rows`` rows.

        Whole pages: the first may begin before ``offset``. Empty when there is nothing yet.
        """
        return await self.query(lambda session: self._read(session, lane, offset, max_rows))

    async def aclose(self) -> None:
        """Close the session after the last question; idempotent."""
        await asyncio.to_thread(self._thread.shutdown)
        self._session.close()

    def _read(
        self, session: Session, lane_name: str, offset: int, max_rows: int
    ) -> list[StoredPage]:
        # Asked each time, in the same transaction: a lane may have been cancelled since.
        lane = _pages_of(session, lane_name)
        pages: list[StoredPage] = []
        rows, size = 0, 0
        found = session.execute(
            _FOLLOWING, {"lane": lane, "start": offset, "pages": _PAGES_AT_ONCE}
        ).fetchall()
        expected = offset
        for first, count in found:
            # At least one page, however large: or a lane with a large page would never go on.
            if pages and rows + count > max_rows:
                break
            _check_between(session, lane, expected, first)
            pages.append(self._page(session, first, lane))
            rows, size = rows + count, size + len(pages[-1].body)
            expected = first + count
            if size >= MOST_RAW:  # what is read at once must fit into memory for every sink
                break
        if not found:
            _check_between(session, lane, offset, NO_END)
        return pages

    def _page(self, session: Session, first_offset: int, lane: int) -> StoredPage:
        """Return one whole page that the index says is in ``lane``."""
        page = self._cache.get(first_offset)
        if page is None:
            page = _stored(session, first_offset, lane)
            self._cache.put(page)
        return page


def _pages_of(session: Session, lane: str) -> int:
    found = session.execute("SELECT pages_of FROM lane WHERE name = ?", (lane,)).fetchone()
    if found is None:
        raise LookupError(f"there is no lane {lane}")
    return int(found[0])


def _check_between(session: Session, lane: int, start: int, end: int) -> None:
    """Raise ``CorruptError`` when the table has a page where the index knows of none.

    Either may be damaged. What one of them knows and the other does not is an error, never a page
    that a sink does not get.
    """
    if start >= end:
        return
    place = {"lane": lane, "start": start, "until": end}
    passed = session.execute(_NOT_IN_INDEX, place).fetchone()
    if passed is not None:
        raise CorruptError(f"the index does not know the stored page at offset {passed[0]}")


def _stored(session: Session, first_offset: int, lane: int) -> StoredPage:
    row = session.execute(_PAGE, (first_offset,)).fetchone()
    if row is None or row[5] != lane or row[-1] is None:
        raise CorruptError(f"there is no page at offset {first_offset}, where the index has one")
    return to_stored(PageRow(*row))


class JournalQueue:
    """Lanes, pages and progress of one sink; implements ``core.log.SinkQueue``."""

    def __init__(
        self,
        number: int,
        writer: Writer,
        reader: JournalReader,
        ends: LaneEnds,
        clock: Clock,
        emit: Emit,
        bounds: Keeping,
    ) -> None:
        """Made by ``Journal.sink_queue``; ``number`` is the sink's in the journal."""
        self._bounds = bounds
        self._number = number
        self._writer = writer
        self._reader = reader
        self._ends = ends
        self._clock = clock
        self._emit = emit

    async def lanes(self) -> Sequence[Lane]:
        """Return the open lanes in which the sink has something to do, live first."""
        return await self._reader.query(lambda session: lanes_of(session, self._number))

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Return pages from ``offset`` on; empty when there is nothing yet."""
        return await self._reader.pages(lane, offset, max_rows)

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Store progress and dead letters together; durable when it returns."""
        now_us = self._clock.now_us()

        def store(session: Session) -> tuple[bool, GapOpened | None, int]:
            ended, gap = acknowledge(
                session, self._number, lane, progress, dead, now_us, self._bounds
            )
            return ended, gap, next_offset(session)

        ended, opened, end = await self._writer.run(store, patient=True)
        if ended:
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
        return await self._reader.query(lambda session: room(session, self._number, self._bounds))
