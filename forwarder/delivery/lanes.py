"""All lanes of one sink: which is read next, which is sent next, and waiting for rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

from forwarder.core.contracts import BatchEvent, BatchLimits, Render, Rendered, StoredPage
from forwarder.core.log import DeadLetter, SinkQueue
from forwarder.core.timing import Clock
from forwarder.delivery.cursor import Acknowledgement, LaneCursor
from forwarder.delivery.events import EventsFiltered, LaneFinished, SinkEvent
from forwarder.delivery.outgoing import OutgoingBatch
from forwarder.delivery.slices import slices

_PATIENT_AFTER = 3
_LONGEST_PAUSE = 0.2


class LaneScheduler:
    """Serves the lanes in order, live first, and reads for them.

    ``woken`` is called when rows may have come. ``sink`` is the name for ``emit``.
    """

    def __init__(
        self,
        queue: SinkQueue,
        render: Render,
        limits: BatchLimits,
        clock: Clock,
        *,
        sink: str,
        emit: Callable[[SinkEvent], None],
        woken: Callable[[], None],
    ) -> None:
        """Begin without a lane; the first read asks which there are."""
        self._queue = queue
        self._render = render
        self._limits = limits
        self._clock = clock
        self._sink = sink
        self._emit = emit
        self._woken = woken
        self._stale = True
        self._ended: set[str] = set()
        self._stored: dict[str, int] = {}
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._fruitless: Counter[str] = Counter()
        self._cursors: list[LaneCursor] = []
        self._leaving: list[LaneCursor] = []
        self._unread: dict[str, Iterator[StoredPage | None]] = {}
        self._unstored: list[LaneCursor] = []
        self._storing: Acknowledgement | None = None

    @property
    def cursors(self) -> Sequence[LaneCursor]:
        """Return the cursors in the order in which they are served."""
        return self._cursors

    def has(self, lane: str) -> bool:
        """Return True while events of a lane may be written or acknowledged."""
        return any(cursor.name == lane for cursor in (*self._cursors, *self._leaving))

    @property
    def suspicious(self) -> bool:
        """Return True if refused events wait somewhere that may not become dead letters yet."""
        return any(cursor.suspicious for cursor in self._cursors)

    @property
    def dry(self) -> bool:
        """Return True if everything that is stored has been read and handed over to be written."""
        return not self._stale and all(cursor.dry for cursor in self._cursors)

    def oldest_seen_us(self) -> int | None:
        """Return when the oldest event that waits here was first seen."""
        seen = [cursor.oldest_seen_us() for cursor in self._cursors]
        return min((one for one in seen if one is not None), default=None)

    def next_moments(self) -> list[float]:
        """Return the moments at which something that rests now may go out."""
        moments = [cursor.next_moment() for cursor in self._cursors]
        return [moment for moment in moments if moment is not None]

    def next_batch(
        self, now: float, max_bytes: int, *, suspects: bool
    ) -> tuple[LaneCursor, OutgoingBatch] | None:
        """Return what may be sent now; None too while a lane must read what comes before."""
        for cursor in self._cursors:
            batch = cursor.next_batch(now, max_bytes, suspects=suspects)
            if batch is not None:
                return cursor, batch
            if cursor.next_to_load(now, suspects=suspects) is not None:
                # Old events go first, and their reading is about to start.
                return None
        return None

    def next_read(
        self, now: float, *, again: bool, suspects: bool
    ) -> tuple[str, Coroutine[Any, Any, None]] | None:
        """Return the name of what is to be read next, and the reading, not yet started.

        ``again`` allows to load batches whose sending failed, ``suspects`` those of suspects in
        their turn. A lane is read only when those before it are dry.
        """
        if self._stale:
            return "lanes", self._refresh()
        for cursor in self._cursors:
            batch = cursor.next_to_load(now, suspects=suspects) if again else None
            if batch is not None:
                cursor.begin_loading(batch)
                return f"{cursor.name} again", self._load(cursor, batch)
            if cursor.wants_more:
                return cursor.name, self._fill(cursor)
            if not (cursor.caught_up or cursor.read_out):
                # Rows of a later lane would go out before rows that are already stored here.
                return None
        return None

    async def _refresh(self) -> None:
        """Read which lanes there are."""
        self._stale = False
        known = {cursor.name: cursor for cursor in self._cursors}
        try:
            lanes = await self._queue.lanes()
        except BaseException:
            self._stale = True
            raise
        self._cursors = [known.get(lane.name) or LaneCursor(lane, self._limits) for lane in lanes]
        for cursor, lane in zip(self._cursors, lanes, strict=True):
            cursor.limit_to(lane.end_offset)
        for name in known.keys() - {lane.name for lane in lanes}:
            known[name].leave()
            self._unread.pop(name, None)
            self._leaving.append(known[name])
            if name in self._waiting:
                self._waiting.pop(name).cancel()
        self._note_ends()

    async def _fill(self, cursor: LaneCursor) -> None:
        """Read ahead in one lane until there is a whole batch."""
        unread = self._unread.pop(cursor.name, None)
        if unread is None:
            hurried = cursor.hurried
            pages = await self._queue.read(cursor.name, cursor.position, cursor.rows_to_read)
            end = cursor.end_offset
            pages = [page for page in pages if end is None or page.first_offset < end]
            if not pages:
                cursor.nothing_found(hurried=hurried)
            else:
                self._fruitless[cursor.name] = 0
            unread = slices(pages, cursor.position)
        for part in unread:
            if part is None:
                await asyncio.sleep(0)
                continue
            rendered = self._rendered(cursor, part)
            cursor.take_in(part, rendered, self._clock.monotonic())
            if not cursor.wants_more:
                # What is left stays as text: one slice beyond a batch is rendered at most.
                self._unread[cursor.name] = unread
                break
        if cursor.pass_over_nothing():
            self.mark(cursor)

    def _rendered(self, cursor: LaneCursor, page: StoredPage) -> Rendered:
        """Render rows that are read for the first time."""
        rendered = self._render(page)
        if rendered.filtered:
            event = EventsFiltered(self._sink, cursor.name, page.stream, rendered.filtered)
            self._emit(event)
        return rendered

    async def _load(self, cursor: LaneCursor, batch: OutgoingBatch) -> None:
        """Read a batch's events again; what the filters leave out is not reported again."""
        events: list[BatchEvent] = []
        unsendable: dict[int, DeadLetter] = {}
        try:
            async for part in self._parts_of(cursor, batch):
                found, out = cursor.undone(batch, part, self._render(part))
                events += found
                unsendable.update(out)
        finally:
            cursor.begin_loading(None)
        if cursor.loaded(batch, events, unsendable):
            self.mark(cursor)

    async def _parts_of(
        self, cursor: LaneCursor, batch: OutgoingBatch
    ) -> AsyncIterator[StoredPage]:
        """Yield the slices of stored pages that hold rows of a batch."""
        position, last = batch.first_offset, batch.ranges[-1][1]
        while position < last:
            rows = min(cursor.rows_to_read, last - position)
            pages = await self._queue.read(cursor.name, position, rows)
            for part in slices(pages, position):
                if part is None:
                    await asyncio.sleep(0)
                    continue
                if part.first_offset >= last:
                    return
                if any(a < part.end_offset and part.first_offset < b for a, b in batch.ranges):
                    yield part
                position = max(position, part.end_offset)
            if not pages:
                return
            position = next((max(a, position) for a, b in batch.ranges if b > position), last)

    def listen(self) -> None:
        """Wait for rows in every lane that was read to its present end."""
        for cursor in self._cursors:
            if cursor.caught_up and not cursor.read_out and cursor.name not in self._waiting:
                name = f"waiting for rows in {cursor.name}"
                task = asyncio.create_task(self._wait(cursor), name=name)
                self._waiting[cursor.name] = task
                # A change between the last read and the start of this wait would go unheard.
                self._stale = True

    async def _wait(self, cursor: LaneCursor) -> None:
        # A queue that wakes its readers for nothing again and again must not make them spin.
        self._fruitless[cursor.name] += 1
        if self._fruitless[cursor.name] > _PATIENT_AFTER:
            await self._clock.sleep(_LONGEST_PAUSE)
        try:
            await self._queue.wait(cursor.name, cursor.position)
        except Exception:  # noqa: BLE001 - the next read meets the same failure and reports it
            await self._clock.sleep(1.0)
        del self._waiting[cursor.name]
        cursor.look_again()
        self._woken()

    # --- acknowledging: while one is being stored, the next ones of a lane become one ------------

    @property
    def idle(self) -> bool:
        """Return True if everything that was marked is stored."""
        return not self._unstored and self._storing is None

    @property
    def dead_pending(self) -> int:
        """Return how many dead letters, expected refusals aside, are not stored yet."""
        storing = self._storing.dead if self._storing else ()
        waiting = sum(cursor.dead_pending for cursor in self._unstored)
        return waiting + sum(not letter.expected for letter in storing)

    def mark(self, cursor: LaneCursor) -> None:
        """Have a lane's progress stored soon."""
        if cursor not in self._unstored:
            self._unstored.append(cursor)

    def next_to_store(self) -> Acknowledgement | None:
        """Return what to store next, None if that is nothing or one is under way."""
        if not self._unstored or self._storing is not None:
            return None
        self._storing = self._unstored.pop(0).acknowledgement()
        return self._storing

    def stored(self, one: Acknowledgement) -> None:
        """Record that an acknowledgement is stored; report a lane that is stored to its end."""
        self._storing = None
        self._stored[one.cursor.name] = one.progress.prefix
        self._note_ends()

    def store_failed(self, one: Acknowledgement) -> None:
        """Record that storing failed: it is tried again, and the lanes may have changed."""
        self._storing = None
        one.cursor.not_stored(one.dead)
        self.mark(one.cursor)
        self._stale = True

    def _note_ends(self) -> None:
        for cursor in self._cursors:
            stored = self._stored.get(cursor.name, -1) >= cursor.prefix
            if stored and cursor.ended and cursor.name not in self._ended:
                self._ended.add(cursor.name)
                self._emit(LaneFinished(self._sink, cursor.name))
                self._stale = True

    def forget(self) -> None:
        """Forget cancelled lanes whose writes have settled and are stored."""
        busy = [*self._unstored, *([self._storing.cursor] if self._storing else [])]
        self._leaving = [one for one in self._leaving if one.writing or one in busy]

    def refresh(self) -> None:
        """Read which lanes there are before anything else is read."""
        self._stale = True

    def hurry(self) -> None:
        """Look for rows once more, and wait for nothing that could join them in a batch."""
        self._stale = True
        for cursor in self._cursors:
            cursor.hurry()

    def stop(self) -> None:
        """Wait no longer."""
        for task in self._waiting.values():
            task.cancel()
        self._waiting.clear()
