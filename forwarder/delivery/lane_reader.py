"""One lane as one sink works through it: what is read, what must be sent again, what is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from forwarder.core.contracts import BatchEvent, Rendered, StoredPage
from forwarder.core.log import Lane
from forwarder.delivery.acks import Acknowledged, Ranges, cut, within
from forwarder.delivery.batching import Buffer
from forwarder.delivery.events import EventsFiltered
from forwarder.delivery.parcels import Parcel, size_of
from forwarder.delivery.unrendered import with_failed
from forwarder.delivery.wiring import Wiring

_MOST_ROWS = 1000
_MOST_BYTES = 4_000_000
_FIRST_GUESS = 4_000


class LaneReader:
    """Holds at most one batch read ahead, and the parcels that wait to be sent again.

    Rows that the sink's filters leave out are reported and count as done.
    """

    def __init__(self, lane: Lane, wiring: Wiring) -> None:
        """Continue after what was stored."""
        self.name = lane.name
        self.end_offset = lane.end_offset
        self.done = Acknowledged(lane.progress)
        self.position = self.done.next_outstanding(0)
        self.caught_up = False
        self.fruitless = 0
        self._hurried = False
        self.again: list[Parcel] = []
        self._wiring = wiring
        self._limits = wiring.limits
        self._buffer = Buffer(self.done.prefix, wiring.limits)
        self._failed: dict[int, str] = {}
        self._row_bytes = _FIRST_GUESS
        self._last_seen_us: int | None = None

    @property
    def read_out(self) -> bool:
        """Say whether nothing is left to be read for the first time."""
        return self.end_offset is not None and self.position >= self.end_offset

    @property
    def ended(self) -> bool:
        """Say whether every event of a lane with an end is done."""
        return self.end_offset is not None and self.done.prefix >= self.end_offset

    @property
    def dry(self) -> bool:
        """Say whether nothing waits here, as far as the last look went."""
        return (self.caught_up or self.read_out) and not (self._buffer or self.again)

    def hurry(self) -> None:
        """Look for rows once more, and let no batch wait for more events."""
        self._hurried, self.caught_up = True, False

    @property
    def wants_more(self) -> bool:
        """Say whether reading ahead makes sense now."""
        return not (self.caught_up or self.read_out or self._buffer.full or self.crowded)

    @property
    def crowded(self) -> bool:
        """Say whether so much must be sent again that nothing new may join it.

        Suspects count for less: what comes after them must be tried to judge them.
        """
        most = max(self._limits.max_events, _MOST_ROWS)
        loaded = sum(len(parcel.events) for parcel in self.again)
        waiting = sum(parcel.count for parcel in self.again)
        suspects = sum(parcel.count for parcel in self.again if parcel.suspect)
        crowd = waiting - suspects >= most or waiting >= 3 * most
        return crowd or loaded >= self._limits.max_events

    @property
    def suspicious(self) -> bool:
        """Say whether refused events wait that may not become dead letters yet."""
        return any(parcel.suspect for parcel in self.again)

    def limit_to(self, end_offset: int | None) -> None:
        """Take note of where the lane ends, once that is known."""
        if end_offset != self.end_offset:
            self.end_offset, self.caught_up = end_offset, False

    def oldest_seen_us(self) -> int | None:
        """Return when the oldest event that is known here was first seen; None: nothing waits."""
        seen = [parcel.seen_us for parcel in self.again]
        if self._buffer.oldest_seen_us is not None:
            seen.append(self._buffer.oldest_seen_us)
        elif not (self.caught_up or self.read_out) and self._last_seen_us is not None:
            seen.append(self._last_seen_us)
        return min(seen, default=None)

    def next_parcel(self, now: float, max_bytes: int, *, suspects: bool) -> Parcel | None:
        """Return what may be sent now, and forget it: first what is sent again, then the new.

        With ``suspects`` they are sent in their turn, without only when there is nothing else.
        """
        due = [parcel for parcel in self.again if parcel.events and parcel.due <= now]
        good = [parcel for parcel in due if suspects or not parcel.suspect]
        if not good and self._ripe(now) and self._to_load(now, suspects=suspects) is None:
            events, span = self._buffer.take(max_bytes)
            failed = {at: self._failed.pop(at) for at in list(self._failed) if at < span[1]}
            return Parcel((span,), len(events), events[0].seen_us, events, failed=failed)
        parcel = min(good or due, key=lambda one: one.first_offset, default=None)
        if parcel is not None:
            self.again.remove(parcel)
        return parcel

    def _ripe(self, now: float) -> bool:
        if not self._buffer or self.crowded:
            return False
        whole = self._buffer.full or self.read_out or self._hurried
        return whole or now >= self._buffer.ripe_at()

    def next_moment(self) -> float | None:
        """Return when something that rests now may be sent or must be read again."""
        moments = [parcel.due for parcel in self.again]
        if self._buffer and not self.crowded:
            moments.append(self._buffer.ripe_at())
        return min(moments, default=None)

    def next_to_load(self, now: float, *, suspects: bool) -> Parcel | None:
        """Return the parcel to read again next, unless one that was read waits to be sent.

        Events that were put off in small numbers are gathered, so that they do not cost a write
        each.
        """
        first = self._to_load(now, suspects=suspects)
        if first is None and not self._ripe(now):
            first = self._to_load(now, suspects=True)
        if first is not None and first.deferred:
            due = [one for one in self.again if one.deferred and one.due <= now]
            self._gather(first, [one for one in due if one is not first])
        return first

    def _to_load(self, now: float, *, suspects: bool) -> Parcel | None:
        due = [one for one in self.again if one.due <= now and (suspects or not one.suspect)]
        if any(parcel.events for parcel in due):
            return None
        return min(due, key=lambda one: one.first_offset, default=None)

    def _gather(self, first: Parcel, others: Sequence[Parcel]) -> None:
        for other in others:
            if first.count + other.count > self._limits.max_events:
                continue
            self.again.remove(other)
            first.ranges = tuple(sorted((*first.ranges, *other.ranges)))
            first.count += other.count
            first.seen_us = min(first.seen_us, other.seen_us)
            first.attempts = max(first.attempts, other.attempts)

    async def fill(self) -> Ranges:
        """Read ahead; return the ranges that turned out to hold nothing for this sink."""
        rows, hurried = max(1, min(_MOST_ROWS, _MOST_BYTES // self._row_bytes)), self._hurried
        pages = await self._wiring.queue.read(self.name, self.position, rows)
        if self.end_offset is not None:
            pages = [page for page in pages if page.first_offset < self.end_offset]
        self.caught_up = not pages and hurried == self._hurried
        if pages:
            self.fruitless = 0
        elif self.end_offset is not None:
            self._add((), self.end_offset)
        for page in pages:
            self._take_in(page)
        return () if self._buffer else (self._buffer.skip(),)

    def _take_in(self, page: StoredPage) -> None:
        rendered = self._wiring.render(page)
        events = self.done.outstanding(with_failed(rendered, page), self.position)
        end = max(rendered.end_offset, page.end_offset)
        if self.end_offset is not None and end > self.end_offset:
            events = within(events, cut(((self.position, end),), self.end_offset)[0])
            end = self.end_offset
        if rendered.filtered:
            name, count = self._wiring.name, rendered.filtered
            self._wiring.emit(EventsFiltered(name, self.name, page.stream, count))
        self._failed |= _reasons(rendered)
        self._row_bytes = max(1, len(page.body) // max(1, page.count))
        self._last_seen_us = page.seen_us
        self._add(events, end)

    def _add(self, events: Sequence[BatchEvent], end: int) -> None:
        self.position = self.done.next_outstanding(max(end, self.position))
        self._buffer.append(events, self.position, self._wiring.clock.monotonic())

    async def load(self, parcel: Parcel) -> bool:
        """Read a parcel's events again; False when none of them exists any longer."""
        events: list[BatchEvent] = []
        failed: dict[int, str] = {}
        position, last = parcel.ranges[0][0], parcel.ranges[-1][1]
        while position < last:
            pages = await self._wiring.queue.read(
                self.name, position, min(_MOST_ROWS, last - position)
            )
            for page in pages:
                if page.first_offset < last:
                    # A range may span what was done before a restart.
                    rendered = self._wiring.render(page)
                    undone = self.done.outstanding(with_failed(rendered, page), position)
                    events += within(undone, parcel.ranges)
                    failed |= _reasons(rendered)
                position = max(position, page.end_offset)
            if not pages:
                break
            position = next((max(a, position) for a, b in parcel.ranges if b > position), last)
        parcel.failed = failed
        self._give(parcel, events)
        return bool(events)

    def _give(self, parcel: Parcel, events: list[BatchEvent]) -> None:
        """Hand the events to their parcel; what was gathered beyond a batch's bytes waits on."""
        if parcel.deferred and size_of(events) > self._limits.max_bytes:
            buffer = Buffer(0, self._limits)
            buffer.append(events, parcel.ranges[-1][1], 0.0)
            events, (_, middle) = buffer.take(self._limits.max_bytes)
            parcel.ranges, rest = cut(parcel.ranges, middle)
            if rest:
                left = parcel.count - len(events)
                self.again.append(replace(parcel, ranges=rest, count=max(1, left)))
        parcel.events, parcel.count = events, len(events)


def _reasons(rendered: Rendered) -> dict[int, str]:
    return {one.offset: one.reason for one in rendered.failed}
