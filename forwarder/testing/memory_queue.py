"""A queue of one sink in memory: what the journal is to a consumer, without a disk."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import orjson

from forwarder.core.contracts import LIVE, BatchEvent, Rendered, StoredPage
from forwarder.core.identity import Identifier
from forwarder.core.log import DeadLetter, Lane, Progress

_FIRST_US = 1_767_225_600_000_000
_ROOM = (10_000, 64 * 2**20)


@dataclass(slots=True)
class _StoredLane:
    pages: list[StoredPage]
    progress: Progress
    end_offset: int | None = None
    cancelled: bool = False

    def add(self, page: StoredPage) -> None:
        """Store one more page."""
        self.pages.append(page)

    def forget(self, below: int) -> None:
        """Drop the rows below an offset; a replay of these pages sees that, too."""
        self.pages[:] = [tail(page, below) for page in self.pages if page.end_offset > below]

    def end(self, end_offset: int) -> None:
        """Grow no longer."""
        self.end_offset = end_offset

    def cancel(self) -> None:
        """Be left out of the lanes."""
        self.cancelled = True

    def acknowledge(self, progress: Progress, dead: Sequence[DeadLetter]) -> None:
        """Remember, after checking that it makes sense."""
        # The journal would store nonsense silently; a test should hear of it.
        _check(self.progress, progress, dead)
        self.progress = progress


@dataclass
class MemoryQueue:
    """A ``forwarder.core.log.SinkQueue`` that outlives its consumer.

    Put rows in with ``append``, run a ``Consumer`` on it, and look at ``progress``, ``dead`` and
    ``acknowledgements``. Drop the consumer and make a new one to play a crash: only what was
    acknowledged is remembered. ``room`` bounds the dead letters (events, bytes); where there are
    more, the oldest expected refusals leave and are counted in ``made_room``. Each error in
    ``read_errors`` and ``acknowledge_errors`` is raised by one call, in order.

    It is strict: progress that goes back, ranges out of order and dead letters that are not
    within the progress are an ``AssertionError``.
    """

    room: tuple[int, int] = _ROOM
    next_offset: int = 0
    dead: dict[int, DeadLetter] = field(default_factory=dict)
    made_room: int = 0
    acknowledgements: int = 0
    reads: int = 0
    read_errors: list[Exception] = field(default_factory=list)
    acknowledge_errors: list[Exception] = field(default_factory=list)
    _lanes: dict[str, _StoredLane] = field(default_factory=dict)
    _version: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._lanes[LIVE] = _StoredLane([], Progress(0))

    # --- for tests ------------------------------------------------------------------------------

    def append(
        self,
        count: int,
        *,
        lane: str = LIVE,
        stream: str = "access_requests",
        seen_us: int | None = None,
        page_size: int = 1000,
    ) -> range:
        """Store ``count`` rows ``{"n": offset}`` in ``lane`` and return their offsets."""
        first = self.next_offset
        for start in range(first, first + count, page_size):
            end = min(start + page_size, first + count)
            self._lanes[lane].add(_page(start, end, stream, seen_us))
        self.next_offset = first + count
        self._changed()
        return range(first, first + count)

    def skip(self, count: int) -> None:
        """Leave out ``count`` offsets: the next rows come after a jump."""
        self.next_offset += count

    def open_lane(self, name: str, start: int, end_offset: int | None = None) -> None:
        """Add a lane with rows of its own (a backfill) that begins at offset ``start``."""
        self._lanes[name] = _StoredLane([], Progress(start), end_offset)
        self._version += 1
        self._changed()

    def replay(self, name: str, start: int, end_offset: int) -> None:
        """Add a lane that goes through the live rows from ``start`` to ``end_offset`` again."""
        live = self._lanes[LIVE].pages
        # The very same list: rows that the live lane drops are gone from the replay, too.
        self._lanes[name] = _StoredLane(live, Progress(start), end_offset)
        self._version += 1
        self._changed()

    def end_lane(self, name: str, end_offset: int) -> None:
        """Say that ``name`` grows no longer."""
        self._lanes[name].end(end_offset)
        self._version += 1
        self._changed()

    def remove_lane(self, name: str) -> None:
        """Cancel a lane; what is in flight may still be acknowledged."""
        self._lanes[name].cancel()
        self._version += 1
        self._changed()

    def forget(self, below: int) -> None:
        """Drop the live rows below an offset, as a full journal does for ``drop_oldest``."""
        self._lanes[LIVE].forget(below)

    def progress(self, lane: str = LIVE) -> Progress:
        """Return what is acknowledged."""
        return self._lanes[lane].progress

    def outstanding(self, lane: str = LIVE) -> list[int]:
        """Return the offsets of the rows that are not acknowledged."""
        stored = self._lanes[lane]
        rows = (o for page in stored.pages for o in range(page.first_offset, page.end_offset))
        end = stored.end_offset
        return [o for o in rows if not _is_done(stored.progress, o) and (end is None or o < end)]

    async def settled(self, lane: str = LIVE) -> None:
        """Wait until every row of ``lane`` is acknowledged."""
        while (stored := self._lanes[lane]).pages:
            last = stored.pages[-1].end_offset
            if stored.progress.prefix >= min(last, stored.end_offset or last):
                return
            await self._change()

    # --- what a consumer calls ------------------------------------------------------------------

    async def lanes(self) -> Sequence[Lane]:
        """Return the lanes, live first."""
        stored = self._lanes.items()
        return [Lane(n, one.progress, one.end_offset) for n, one in stored if not one.cancelled]

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Return pages from ``offset`` on until they hold ``max_rows`` rows."""
        self.reads += 1
        if self.read_errors:
            raise self.read_errors.pop(0)
        pages, rows = [], 0
        for page in self._from(lane, offset):
            if rows >= max_rows:
                break
            pages.append(page)
            rows += page.count
        return pages

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Remember, after checking that it makes sense."""
        self.acknowledgements += 1
        # Before anything is kept: an error of a journal means that nothing was stored.
        if self.acknowledge_errors:
            raise self.acknowledge_errors.pop(0)
        self._lanes[lane].acknowledge(progress, dead)
        self.dead.update({letter.offset: letter for letter in dead})
        expected = [offset for offset, letter in self.dead.items() if letter.expected]
        for offset in expected[: max(0, len(self.dead) - self.room[0])]:
            del self.dead[offset]
            self.made_room += 1
        self._changed()

    async def wait(self, lane: str, offset: int) -> None:
        """Wait for rows, or for another set of lanes."""
        # Lanes that come or go wake the waiting, too: the next read may be elsewhere.
        version = self._version
        while version == self._version and not any(self._from(lane, offset)):
            await self._change()

    async def dead_letter_room(self) -> tuple[int, int]:
        """Return what is left of ``room``; expected refusals leave when it is needed."""
        kept = sum(not letter.expected for letter in self.dead.values())
        return self.room[0] - kept, self.room[1]

    def _from(self, lane: str, offset: int) -> Iterator[StoredPage]:
        pages = self._lanes[lane].pages
        # Pages are in order; a long test would otherwise scan all of them at each read.
        first = bisect_right(pages, offset, key=lambda page: page.end_offset)
        return (tail(page, offset) for page in pages[first:])

    # A new event for each change: setting and clearing one would lose quick changes.
    def _changed(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _change(self) -> None:
        await self._news.wait()


def tail(page: StoredPage, offset: int) -> StoredPage:
    """Return the part of a page at or after ``offset``."""
    cut = offset - page.first_offset
    if cut <= 0:
        return page
    return replace(
        page,
        first_offset=offset,
        times_us=page.times_us[cut:],
        ids=page.ids[16 * cut :],
        body=orjson.dumps(page.rows[cut:]),
    )


def render_plainly(
    page: StoredPage, *, keep: Callable[[int], bool] = lambda _: True, body: bytes | None = None
) -> Rendered:
    """Render each row as the JSON it is, or as ``body``; ``keep`` filters by offset."""
    events = [
        BatchEvent(
            offset=page.first_offset + i,
            id=page.hex_ids[i],
            stream=page.stream,
            account=page.account_id,
            time_us=page.times_us[i],
            seen_us=page.seen_us,
            outcome="success",
            user="",
            body=orjson.dumps(page.rows[i]) if body is None else body,
        )
        for i in range(page.count)
        if keep(page.first_offset + i)
    ]
    return Rendered(events, page.end_offset, page.count - len(events))


def _page(start: int, end: int, stream: str, seen_us: int | None) -> StoredPage:
    rows = [{"n": offset} for offset in range(start, end)]
    times = [_FIRST_US + offset * 1000 for offset in range(start, end)]
    return StoredPage(
        first_offset=start,
        account_id="acme",
        stream=stream,
        seen_us=times[-1] if seen_us is None else seen_us,
        times_us=times,
        ids=b"".join(Identifier("acme", stream).identities(rows)),
        body=orjson.dumps(rows),
    )


def _is_done(progress: Progress, offset: int) -> bool:
    return offset < progress.prefix or any(a <= offset < b for a, b in progress.ranges)


def _check(before: Progress, after: Progress, dead: Sequence[DeadLetter]) -> None:
    edges = [after.prefix, *(edge for one in after.ranges for edge in one)]
    assert edges == sorted(set(edges)), f"prefix and ranges must be in order and apart: {after}"
    assert after.prefix >= before.prefix, "the prefix went back"
    assert all(_is_done(after, a) and _is_done(after, b - 1) for a, b in before.ranges), (
        "acknowledged ranges were forgotten"
    )
    assert all(_is_done(after, letter.offset) for letter in dead), "a dead letter is not done"
