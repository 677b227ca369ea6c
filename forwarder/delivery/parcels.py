"""A parcel: events of one lane that go out in one write, and again after a failure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import itemgetter

from forwarder.core.contracts import Batch, BatchEvent
from forwarder.delivery.acks import Ranges, cut

_STREAM, _TIME, _SEEN, _BODY = (
    itemgetter(BatchEvent._fields.index(name)) for name in ("stream", "time_us", "seen_us", "body")
)

AGE_BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
"""Upper bounds in seconds of the counts in ``Ages``; the last count has no bound."""


@dataclass(frozen=True, slots=True)
class Ages:
    """How old the delivered events of one batch were: counts between ``AGE_BOUNDS``.

    ``counts`` has one number more than there are bounds. ``total`` and ``oldest`` are seconds;
    an event that is younger than nothing (a clock that is ahead) has age 0.
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


@dataclass(slots=True)
class Parcel:
    """Work of one lane that is to be sent in one write.

    ``ranges`` are done when all its events are. ``events`` are empty when they must be read again
    from the queue; then ``count`` is a guess. ``attempts`` counts the writes so far, ``due`` is
    the moment of the monotonic clock before which it must rest, ``deferred`` marks events that
    the destination put off: those of several parcels may go out together. ``suspect`` marks events
    that were refused and spared: they need no second proof that something is wrong. ``failed``
    says of which of the events nothing can be sent, since rendering them failed, and why.
    """

    ranges: Ranges
    count: int
    seen_us: int
    events: Sequence[BatchEvent] = ()
    attempts: int = 0
    due: float = 0.0
    deferred: bool = False
    suspect: bool = False
    failed: Mapping[int, str] = field(default_factory=dict)

    @property
    def first_offset(self) -> int:
        """Return where it begins."""
        return self.ranges[0][0]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What must be known of a batch after its events were let go of."""

    count: int
    size: int
    first_offset: int
    last_offset: int
    streams: Counter[str]
    times_us: Sequence[int]
    seen_us: Sequence[int]


def manifest_of(events: Sequence[BatchEvent]) -> Manifest:
    """List what is in a batch, at C speed."""
    return Manifest(
        count=len(events),
        size=size_of(events),
        first_offset=events[0].offset,
        last_offset=events[-1].offset,
        streams=Counter(map(_STREAM, events)),
        times_us=array("q", sorted(map(_TIME, events))),
        seen_us=array("q", sorted(map(_SEEN, events))),
    )


def size_of(events: Sequence[BatchEvent]) -> int:
    """Return the bytes of all bodies."""
    return sum(map(len, map(_BODY, events)))


def halves(parcel: Parcel, events: Sequence[BatchEvent], manifest: Manifest) -> list[Parcel]:
    """Cut a refused parcel of at least two events in two.

    Between two events where they are at hand; where the sink let go of them, in the middle of
    their offsets.
    """
    middle = len(events) // 2
    at = (
        events[middle].offset if events else (manifest.first_offset + manifest.last_offset + 1) // 2
    )
    left, right = cut(parcel.ranges, at)
    half = (manifest.count + 1) // 2
    rest = len(events) - middle
    parts = (left, middle, events[:middle]), (right, rest, events[middle:])
    template = replace(parcel, attempts=parcel.attempts + 1, deferred=False)
    return [
        replace(template, ranges=ranges, count=count or half, events=part)
        for ranges, count, part in parts
    ]


def batch_of(parcel: Parcel, size: int) -> Batch:
    """Hand the parcel's events over to a batch, so that releasing them frees them."""
    batch = Batch(parcel.events, size)
    parcel.events = ()
    return batch
