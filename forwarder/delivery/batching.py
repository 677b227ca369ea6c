"""Cuts batches by number of events and bytes out of what was read ahead. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter

from forwarder.core.contracts import BatchEvent, BatchLimits

_BODY = itemgetter(BatchEvent._fields.index("body"))


class Buffer:
    """Rendered events of one lane in offset order, read ahead and not sent yet.

    Sizes are summed once when a page comes in and looked up by bisection afterwards, so that
    cutting a batch costs two slices however many events there are.
    """

    def __init__(self, start: int, limits: BatchLimits) -> None:
        """Begin at offset ``start`` with nothing."""
        self.start = start
        self.end = start
        self._limits = limits
        self._events: list[BatchEvent] = []
        self._totals: list[int] = [0]
        self._oversized: list[int] = []
        self._first_came = self._last_came = 0.0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def size(self) -> int:
        """Return the bytes of all bodies."""
        return self._totals[-1] - self._totals[0]

    @property
    def full(self) -> bool:
        """Say whether a whole batch is there."""
        return len(self._events) >= self._limits.max_events or self.size >= self._limits.max_bytes

    @property
    def oldest_seen_us(self) -> int | None:
        """Return when the first event was first seen, None when there is none."""
        return self._events[0].seen_us if self._events else None

    def append(self, events: Sequence[BatchEvent], end: int, now: float) -> None:
        """Add the events of a page; every offset below ``end`` is accounted for by them."""
        self.end = max(self.end, end)
        if not events:
            return
        if not self._events:
            self._first_came = now
        self._last_came = now
        sizes = list(map(len, map(_BODY, events)))
        most = self._limits.max_event_bytes
        if most is not None and max(sizes) > most:
            have = len(self._events)
            self._oversized += [have + i for i, size in enumerate(sizes) if size > most]
        self._events += events
        self._totals += accumulate(sizes, initial=self._totals.pop())

    def ripe_at(self) -> float:
        """Return when the first event has waited long enough to go out in a partial batch."""
        return self._first_came + self._limits.max_wait

    def take(self, max_bytes: int) -> tuple[list[BatchEvent], tuple[int, int]]:
        """Cut off the next batch: its events and the range of offsets that it accounts for.

        An event that is too large for the destination comes alone; so does one that is larger
        than ``max_bytes``.
        """
        count = self._next_count(max_bytes)
        events, self._events = self._events[:count], self._events[count:]
        self._totals = self._totals[count:]
        end = self._events[0].offset if self._events else self.end
        span, self.start = (self.start, end), end
        if self._oversized:
            self._oversized = [at - count for at in self._oversized if at >= count]
        self._first_came = self._last_came
        return events, span

    def skip(self) -> tuple[int, int]:
        """Return the range that was read without finding an event, and pass it over."""
        span, self.start = (self.start, self.end), self.end
        return span

    def _next_count(self, max_bytes: int) -> int:
        fitting = bisect_right(self._totals, self._totals[0] + max_bytes) - 1
        count = max(1, min(self._limits.max_events, fitting, len(self._events)))
        if not self._oversized:
            return count
        if self._oversized[0] == 0:
            return 1
        return min(count, self._oversized[0])
