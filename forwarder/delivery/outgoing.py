"""What goes out in one write: cutting batches, what is known of one, halving one. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from operator import itemgetter

from forwarder.core.contracts import Batch, BatchEvent, BatchLimits
from forwarder.core.log import DeadLetter
from forwarder.delivery.offsets import Ranges, cut

# itemgetter of a named tuple's index is several times faster than attrgetter of its name, and these
# are called for every event.
_STREAM, _TIME, _SEEN, _BODY = (
    itemgetter(BatchEvent._fields.index(name)) for name in ("stream", "time_us", "seen_us", "body")
)

AGE_BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
"""Upper bounds in seconds of the counts in ``Ages``; the last count has no bound."""


@dataclass(frozen=True, slots=True)
class Ages:
    """How old the delivered events of one batch were: counts between ``AGE_BOUNDS``.

    ``counts`` has one number more than there are bounds. ``total`` and ``oldest`` are seconds; an
    event from the future (a clock that is ahead) has age 0.
    """

    counts: tuple[int, ...]
    total: float
    oldest: float


def ages(times_us: Sequence[int], now_us: int) -> Ages:
    """Count sorted times by their age at ``now_us``."""
    count = len(times_us)
    beyond = [bisect_left(times_us, now_us - int(bound * 1_000_000)) for bound in AGE_BOUNDS]
    steps = [count, *beyond, 0]
    known = bisect_left(times_us, now_us)
    return Ages(
        tuple(younger - older for younger, older in pairwise(steps)),
        (known * now_us - sum(times_us[:known])) / 1_000_000,
        max(0.0, (now_us - times_us[0]) / 1_000_000) if count else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """What must be known of events after the sink has released them; the times are sorted."""

    first_offset: int
    last_offset: int
    streams: Counter[str]
    times_us: Sequence[int]
    seen_us: Sequence[int]


NOTHING = Summary(0, 0, Counter(), (), ())
"""The summary of no events."""


def summarise(events: Sequence[BatchEvent]) -> Summary:
    """Summarise events in one pass for each field."""
    if not events:
        return NOTHING
    return Summary(
        first_offset=events[0].offset,
        last_offset=events[-1].offset,
        streams=Counter(map(_STREAM, events)),
        times_us=array("q", sorted(map(_TIME, events))),
        seen_us=array("q", sorted(map(_SEEN, events))),
    )


def size_of(events: Iterable[BatchEvent]) -> int:
    """Return the bytes of all bodies."""
    return sum(map(len, map(_BODY, events)))


def largest(events: Iterable[BatchEvent]) -> int:
    """Return the bytes of the largest body, 0 if there is none."""
    return max(map(len, map(_BODY, events)), default=0)


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingBatch:
    """Events of one lane for one write; a failed write leads to others in its place.

    ``ranges`` are done when all its events are. ``batch`` holds the events, unless they were
    released or must be read again from the queue; then ``count`` may be a guess. ``seen_us`` is
    when the oldest was first seen. ``attempts`` counts the writes so far, ``due`` is the moment of
    the monotonic clock before which it must rest.

    ``deferred``: the destination put these events off; several such batches may go out together.
    ``suspect``: these events were refused and kept, since something may be wrong with all events.
    ``unsendable``: the events that no sink sees, by offset: they could not be rendered, or are too
    large. They travel as empty events.
    """

    lane: str
    ranges: Ranges
    count: int
    seen_us: int
    batch: Batch
    summary: Summary = NOTHING
    attempts: int = 0
    due: float = 0.0
    deferred: bool = False
    suspect: bool = False
    unsendable: Mapping[int, DeadLetter] = field(default_factory=dict)

    @property
    def first_offset(self) -> int:
        """Return where the batch begins."""
        return self.ranges[0][0]

    @property
    def events(self) -> Sequence[BatchEvent]:
        """Return the events that are at hand."""
        return self.batch.events

    def holding(
        self,
        events: Sequence[BatchEvent],
        unsendable: Mapping[int, DeadLetter],
        size: int | None = None,
    ) -> OutgoingBatch:
        """Return the batch with these events; ``size`` saves adding up their bodies."""
        batch = Batch(events, size_of(events) if size is None else size, self.lane)
        known = summarise(events)
        return replace(self, batch=batch, summary=known, count=len(events), unsendable=unsendable)

    def for_the_sink(self) -> Batch:
        """Return what the sink may see, empty if no event can be sent.

        This is ``batch`` itself where possible: releasing it then frees the events.
        """
        if not self.unsendable:
            return self.batch
        events = [event for event in self.batch.events if event.offset not in self.unsendable]
        return Batch(events, self.batch.size, self.lane)

    def again(self) -> OutgoingBatch:
        """Return the same work for the next attempt; its events are read again."""
        return replace(self._emptied(), attempts=self.attempts + 1)

    def _emptied(self) -> OutgoingBatch:
        return replace(self, batch=Batch((), 0, self.lane), summary=NOTHING, unsendable={})

    def part(
        self, ranges: Ranges, count: int, *, deferred: bool = False, suspect: bool = False
    ) -> OutgoingBatch:
        """Return a part of the work, to be read again: ``deferred`` or ``suspect`` events."""
        # Without its events: what rests for minutes must not take memory.
        return OutgoingBatch(
            lane=self.lane,
            ranges=ranges,
            count=count,
            seen_us=self.seen_us,
            batch=Batch((), 0, self.lane),
            attempts=self.attempts + 1,
            deferred=deferred,
            suspect=suspect,
        )

    def halves(self) -> tuple[OutgoingBatch, OutgoingBatch]:
        """Cut a batch of at least two events in two, to find the event that is refused.

        The cut is between two events where these are at hand. If the sink released them, it is
        in the middle of their offsets.
        """
        events = self.events
        middle = len(events) // 2
        at = (self.summary.first_offset + self.summary.last_offset + 1) // 2
        left, right = cut(self.ranges, events[middle].offset if events else at)
        lower = replace(self.again(), ranges=left, count=(self.count + 1) // 2, deferred=False)
        upper = replace(lower, ranges=right)
        if not events:
            return lower, upper
        out = self.unsendable
        return lower.holding(events[:middle], out), upper.holding(events[middle:], out)

    def gathered(self, other: OutgoingBatch) -> OutgoingBatch:
        """Return one batch to be read again in place of two."""
        return replace(
            self,
            ranges=tuple(sorted((*self.ranges, *other.ranges))),
            count=self.count + other.count,
            seen_us=min(self.seen_us, other.seen_us),
            attempts=max(self.attempts, other.attempts),
        )

    def fitting(self, limits: BatchLimits) -> tuple[OutgoingBatch, OutgoingBatch | None]:
        """Return what of the batch one write may take, and the rest, to be read again."""
        if self.batch.size <= limits.max_bytes:
            return self, None
        buffer = Buffer(0, limits)
        buffer.append(self.events, self.ranges[-1][1], 0.0)
        first = buffer.take(limits.max_bytes)
        ranges, rest = cut(self.ranges, first.span[1])
        taken = replace(self, ranges=ranges).holding(first.events, self.unsendable, first.size)
        if not rest:
            return taken, None
        left = max(1, self.count - taken.count)
        return taken, replace(self._emptied(), ranges=rest, count=left)


@dataclass(frozen=True, slots=True)
class Cut:
    """The next batch out of a ``Buffer``: its events and the offsets it accounts for."""

    events: Sequence[BatchEvent]
    span: tuple[int, int]
    size: int


class Buffer:
    """Rendered events of one lane in offset order, read ahead and not sent yet.

    Sizes are summed once when a page comes in and looked up by bisection afterwards, so that
    cutting a batch costs two slices however many events there are.
    """

    def __init__(self, start: int, limits: BatchLimits) -> None:
        """Begin empty at offset ``start``."""
        self._start = self._end = start
        self._limits = limits
        self._events: list[BatchEvent] = []
        self._totals: list[int] = [0]
        self._first_came = self._last_came = 0.0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def start(self) -> int:
        """Return the offset below which nothing is in here any more."""
        return self._start

    @property
    def full(self) -> bool:
        """Return True if there is a whole batch."""
        size = self._totals[-1] - self._totals[0]
        return len(self._events) >= self._limits.max_events or size >= self._limits.max_bytes

    @property
    def oldest_seen_us(self) -> int | None:
        """Return when the first event was first seen, None if there is none."""
        return self._events[0].seen_us if self._events else None

    @property
    def ripe_at(self) -> float:
        """Return when the first event has waited long enough to go out in a partial batch."""
        return self._first_came + self._limits.max_wait

    def append(self, events: Sequence[BatchEvent], end: int, now: float) -> None:
        """Add the events of a page; every offset below ``end`` is accounted for by them."""
        self._end = max(self._end, end)
        if not events:
            return
        if not self._events:
            self._first_came = now
        self._last_came = now
        sizes = map(len, map(_BODY, events))
        self._events += events
        self._totals += accumulate(sizes, initial=self._totals.pop())

    def take(self, max_bytes: int) -> Cut:
        """Cut off the next batch.

        An event that is larger than ``max_bytes`` comes alone.
        """
        fitting = bisect_right(self._totals, self._totals[0] + max_bytes) - 1
        count = max(1, min(self._limits.max_events, fitting, len(self._events)))
        size = self._totals[count] - self._totals[0]
        events, self._events = self._events[:count], self._events[count:]
        self._totals = self._totals[count:]
        end = self._events[0].offset if self._events else self._end
        span, self._start = (self._start, end), end
        # What is left came with the newest page at the latest; it waits as long as that page.
        self._first_came = self._last_came
        return Cut(events, span, size)

    def skip(self) -> tuple[int, int]:
        """Return the range that was read without finding an event, and move past it."""
        span, self._start = (self._start, self._end), self._end
        return span


def new_batch(lane: str, taken: Cut, unsendable: Mapping[int, DeadLetter]) -> OutgoingBatch:
    """Return a batch that was never sent before."""
    seen_us = taken.events[0].seen_us
    bare = OutgoingBatch(lane, (taken.span,), len(taken.events), seen_us, Batch((), 0, lane))
    return bare.holding(taken.events, unsendable, taken.size)
