"""One lane as one sink works through it: what was read, what must be sent again, what is done.

Pure: the caller reports what was read and what became of a write, and asks what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from forwarder.core.contracts import BatchEvent, BatchLimits, Rendered, StoredPage
from forwarder.core.log import DeadLetter, Lane, Progress
from forwarder.delivery.offsets import DoneOffsets, Ranges, cut, within
from forwarder.delivery.outgoing import Buffer, OutgoingBatch, largest, new_batch

_MOST_ROWS = 1000
_MOST_BYTES = 4_000_000
# Bytes of a row before one was seen: some SCIM rows have 60 kB, a login has one.
_FIRST_GUESS = 4_000


@dataclass(frozen=True, slots=True, eq=False)
class Acknowledgement:
    """One lane's progress and dead letters, to be stored together."""

    cursor: LaneCursor
    progress: Progress
    dead: Sequence[DeadLetter]


class LaneCursor:
    """Holds at most one batch read ahead, and the batches that wait to be sent again."""

    def __init__(self, lane: Lane, limits: BatchLimits) -> None:
        """Continue after what was stored."""
        self.name = lane.name
        self.end_offset = lane.end_offset
        self.caught_up = False
        self._done = DoneOffsets(lane.progress)
        self.position = self._done.next_outstanding(0)
        self._limits = limits
        self._buffer = Buffer(self._done.prefix, limits)
        self._again: list[OutgoingBatch] = []
        self._in_flight = 0
        self._dead: list[DeadLetter] = []
        self._left = False
        self._loading: OutgoingBatch | None = None
        self._unsendable: dict[int, DeadLetter] = {}
        self._hurried = False
        self._row_bytes = _FIRST_GUESS
        self._last_seen_us: int | None = None

    # --- how far it is ---------------------------------------------------------------------------

    @property
    def prefix(self) -> int:
        """Return the offset below which everything is done."""
        return self._done.prefix

    @property
    def read_out(self) -> bool:
        """Return True if nothing is left to be read for the first time."""
        return self.end_offset is not None and self.position >= self.end_offset

    @property
    def ended(self) -> bool:
        """Return True if every event of a lane with an end is done."""
        return self.end_offset is not None and self.prefix >= self.end_offset

    @property
    def dry(self) -> bool:
        """Return True if nothing waits here, as far as the last read went."""
        return (self.caught_up or self.read_out) and not (self._buffer or self._again)

    @property
    def suspicious(self) -> bool:
        """Return True if refused events wait that may not become dead letters yet."""
        return any(batch.suspect for batch in self._again)

    def oldest_seen_us(self) -> int | None:
        """Return when the oldest event that is known here was first seen; None: nothing waits."""
        seen = [batch.seen_us for batch in self._again]
        if self._buffer.oldest_seen_us is not None:
            seen.append(self._buffer.oldest_seen_us)
        elif not (self.caught_up or self.read_out) and self._last_seen_us is not None:
            seen.append(self._last_seen_us)
        return min(seen, default=None)

    # --- reading ---------------------------------------------------------------------------------

    @property
    def wants_more(self) -> bool:
        """Return True if reading ahead makes sense now."""
        return not (self.caught_up or self.read_out or self._buffer.full or self._crowded)

    @property
    def rows_to_read(self) -> int:
        """Return how many rows to read at once, so that their bodies stay below some megabytes."""
        return max(1, min(_MOST_ROWS, _MOST_BYTES // self._row_bytes))

    def limit_to(self, end_offset: int | None) -> None:
        """Record where the lane ends, once that is known."""
        if end_offset != self.end_offset:
            self.end_offset, self.caught_up = end_offset, False

    def look_again(self) -> None:
        """Expect rows at the end of what was read."""
        self.caught_up = False

    def hurry(self) -> None:
        """Look for rows once more, and let no batch wait for more events."""
        self._hurried, self.caught_up = True, False

    @property
    def hurried(self) -> bool:
        """Return True once ``hurry`` was called; a read that began before may have missed rows."""
        return self._hurried

    def nothing_found(self, *, hurried: bool) -> None:
        """Record that a read came back empty; ``hurried`` is from before that read."""
        self.caught_up = hurried == self._hurried
        if self.end_offset is not None:
            self._add((), self.end_offset, 0.0)

    def take_in(self, page: StoredPage, rendered: Rendered, now: float) -> None:
        """Add a page at the position that was read; what is done already is left out."""
        all_events, unsendable = self._events_of(page, rendered)
        events = self._done.outstanding(all_events, self.position)
        end = max(rendered.end_offset, page.end_offset)
        if self.end_offset is not None and end > self.end_offset:
            events = within(events, cut(((self.position, end),), self.end_offset)[0])
            end = self.end_offset
        self._unsendable.update(unsendable)
        self._row_bytes = page.row_bytes
        self._last_seen_us = page.seen_us
        self._add(events, end, now)

    def _events_of(
        self, page: StoredPage, rendered: Rendered
    ) -> tuple[Sequence[BatchEvent], Mapping[int, DeadLetter]]:
        """Return the page's events in offset order, and which of them no sink may see.

        A row that could not be rendered is an event without a body, and so is one that is too large
        for the destination: it would be refused for sure.
        """
        events, most = rendered.events, self._limits.max_event_bytes
        unsendable = {one.offset: DeadLetter(one.offset, one.reason) for one in rendered.failed}
        if unsendable:
            empty = (_empty(page, offset) for offset in unsendable)
            events = sorted((*events, *empty), key=lambda event: event.offset)
        if most is not None and largest(events) > most:
            large = {event.offset: len(event.body) for event in events if len(event.body) > most}
            reason = f"too large: the destination takes at most {most} bytes"
            unsendable |= {at: DeadLetter(at, reason, size) for at, size in large.items()}
            events = [e._replace(body=b"") if e.offset in large else e for e in events]
        return events, unsendable

    def _add(self, events: Sequence[BatchEvent], end: int, now: float) -> None:
        self.position = self._done.next_outstanding(max(end, self.position))
        self._buffer.append(events, self.position, now)

    def pass_over_nothing(self) -> bool:
        """Mark as done what was read without finding an event; return True if the prefix grew."""
        return not self._buffer and self._done.add([self._buffer.skip()])

    # --- sending ---------------------------------------------------------------------------------

    def next_batch(self, now: float, max_bytes: int, *, suspects: bool) -> OutgoingBatch | None:
        """Return what may be sent now, and forget it: first what is sent again, then the new.

        With ``suspects`` they are sent in their turn, without only when there is nothing else.
        """
        due = [batch for batch in self._again if batch.events and batch.due <= now]
        good = [batch for batch in due if suspects or not batch.suspect]
        if not good and self._ripe(now) and self._to_load(now, suspects=suspects) is None:
            self._in_flight += 1
            taken = self._buffer.take(max_bytes)
            out = {at: one for at, one in self._unsendable.items() if at < taken.span[1]}
            for offset in out:
                del self._unsendable[offset]
            return new_batch(self.name, taken, out)
        batch = min(good or due, key=lambda one: one.first_offset, default=None)
        if batch is not None:
            self._in_flight += 1
            self._again.remove(batch)
        return batch

    def next_to_load(self, now: float, *, suspects: bool) -> OutgoingBatch | None:
        """Return the batch to read again next, unless one that was read waits to be sent.

        Events that were put off in small numbers are gathered, so that they do not cost a write
        each.
        """
        # While one is being read nothing may join it: its reading has already begun.
        if self._loading is not None:
            return self._loading
        first = self._to_load(now, suspects=suspects)
        if first is None and not self._ripe(now):
            first = self._to_load(now, suspects=True)
        return self._gather(first, now) if first is not None and first.deferred else first

    def _to_load(self, now: float, *, suspects: bool) -> OutgoingBatch | None:
        due = [one for one in self._again if one.due <= now and (suspects or not one.suspect)]
        if any(batch.events for batch in due):
            return None
        return min(due, key=lambda one: one.first_offset, default=None)

    def _gather(self, first: OutgoingBatch, now: float) -> OutgoingBatch:
        gathered = first
        for other in [one for one in self._again if one.deferred and one.due <= now]:
            if other is not first and gathered.count + other.count <= self._limits.max_events:
                self._again.remove(other)
                gathered = gathered.gathered(other)
        self._again[self._again.index(first)] = gathered
        return gathered

    def begin_loading(self, batch: OutgoingBatch | None) -> None:
        """Record which batch is being read again; None: none any longer."""
        self._loading = batch

    def undone(
        self, batch: OutgoingBatch, page: StoredPage, rendered: Rendered
    ) -> tuple[Sequence[BatchEvent], Mapping[int, DeadLetter]]:
        """Return the events of a page that belong to a batch, and which no sink may see."""
        events, unsendable = self._events_of(page, rendered)
        # A range may span what was done before a restart.
        undone = self._done.outstanding(events, batch.first_offset)
        return within(undone, batch.ranges), unsendable

    def loaded(
        self,
        batch: OutgoingBatch,
        events: Sequence[BatchEvent],
        unsendable: Mapping[int, DeadLetter],
    ) -> bool:
        """Take the events that were read again for a batch; return True if the prefix grew.

        Rows that have vanished meanwhile count as done.
        """
        self._again.remove(batch)
        if not events:
            return self._done.add(batch.ranges)
        first, rest = batch.holding(events, unsendable), None
        if batch.deferred:
            # Events that were gathered by their number may be more than a batch's bytes.
            first, rest = first.fitting(self._limits)
        self._again += [first] if rest is None else [first, rest]
        return False

    def settle(
        self,
        done: Ranges,
        dead: Sequence[DeadLetter],
        again: Sequence[OutgoingBatch],
        *,
        now: float,
        rest: float,
    ) -> None:
        """Follow a verdict; what the destination put off rests for ``rest`` seconds."""
        self._in_flight -= 1
        self._done.add(done)
        self._dead += dead
        if self._left:
            return
        # Rounded up to a common moment: else each would come due alone and cost a write.
        step = self._limits.max_wait
        later = ceil((now + rest) / step) * step if step > 0 else now + rest
        self._again += [replace(one, due=later if one.deferred else now) for one in again]

    # --- acknowledging and leaving ---------------------------------------------------------------

    def acknowledgement(self) -> Acknowledgement:
        """Return what is to be stored, in one transaction, and count it as under way.

        The progress covers the offsets of the dead letters, so that none is passed that is not
        stored with it.
        """
        dead, self._dead = self._dead, []
        return Acknowledgement(self, self._done.progress(), dead)

    def not_stored(self, dead: Sequence[DeadLetter]) -> None:
        """Take back dead letters whose acknowledgement failed."""
        self._dead[:0] = dead

    @property
    def dead_pending(self) -> int:
        """Return how many dead letters, expected refusals aside, wait to be stored."""
        return sum(not letter.expected for letter in self._dead)

    def leave(self) -> None:
        """Drop what was not written yet, since the lane is cancelled; writes in flight settle."""
        self._left = True
        self._again.clear()

    @property
    def writing(self) -> bool:
        """Return True while a write of this lane is in flight."""
        return self._in_flight > 0

    # --- waiting ---------------------------------------------------------------------------------

    def due(self, now: float) -> bool:
        """Return True if the first event that is not done was handed over before, or could be."""
        return self.prefix < self._buffer.start or self._ripe(now)

    def next_moment(self) -> float | None:
        """Return when something that rests now may be sent or must be read again."""
        moments = [batch.due for batch in self._again]
        if self._buffer and not self._crowded:
            moments.append(self._buffer.ripe_at)
        return min(moments, default=None)

    def _ripe(self, now: float) -> bool:
        if not self._buffer or self._crowded:
            return False
        whole = self._buffer.full or self.read_out or self._hurried
        return whole or now >= self._buffer.ripe_at

    @property
    def _crowded(self) -> bool:
        """Return True if so much must be sent again that nothing new may join it.

        Suspects count for less: what comes after them must be tried to judge them.
        """
        if not self._again:
            return False
        most = max(self._limits.max_events, _MOST_ROWS)
        loaded = sum(len(batch.events) for batch in self._again)
        waiting = sum(batch.count for batch in self._again)
        suspects = sum(batch.count for batch in self._again if batch.suspect)
        # Three times as many and no more: else a destination that refuses everything fills memory.
        crowd = waiting - suspects >= most or waiting >= 3 * most
        return crowd or loaded >= self._limits.max_events


def _empty(page: StoredPage, offset: int) -> BatchEvent:
    at = offset - page.first_offset
    return BatchEvent(
        offset=offset,
        id=page.hex_ids[at],
        stream=page.stream,
        account=page.account_id,
        time_us=page.times_us[at],
        seen_us=page.seen_us,
        outcome="unknown",
        user="",
        body=b"",
    )
