"""Which offsets are done: a contiguous prefix, and ranges above it. Pure.

An offset is outstanding or it is done. Work is cut so that its ranges tile the sequence without
holes. Offsets that no event has (filtered rows, rows of other lanes) are done together with their
neighbours, so no code has to name them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Protocol, TypeAlias, TypeVar

from forwarder.core.log import Progress

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Half-open ranges of offsets, sorted; no two overlap or touch."""


class _Placed(Protocol):
    """Anything that has an offset."""

    @property
    def offset(self) -> int: ...


E = TypeVar("E", bound=_Placed)
_OFFSET = attrgetter("offset")


def points(offsets: Iterable[int]) -> Ranges:
    """Return the ranges that hold exactly these offsets."""
    ranges: list[tuple[int, int]] = []
    for offset in sorted(offsets):
        if ranges and ranges[-1][1] == offset:
            ranges[-1] = (ranges[-1][0], offset + 1)
        else:
            ranges.append((offset, offset + 1))
    return tuple(ranges)


def without(ranges: Ranges, offsets: Iterable[int]) -> Ranges:
    """Return ``ranges`` with these offsets cut out of them."""
    rest = list(ranges)
    # From the highest offset down, so that a cut does not move the ranges still to be cut.
    for offset in sorted(offsets, reverse=True):
        at = bisect_right(rest, offset, key=lambda one: one[0]) - 1
        if at < 0 or rest[at][1] <= offset:
            continue
        start, end = rest[at]
        pieces = ((start, offset), (offset + 1, end))
        rest[at : at + 1] = [piece for piece in pieces if piece[0] < piece[1]]
    return tuple(rest)


def contains(ranges: Ranges, offset: int) -> bool:
    """Return True if ``offset`` lies in one of the ranges."""
    at = bisect_right(ranges, offset, key=lambda one: one[0]) - 1
    return at >= 0 and offset < ranges[at][1]


def cut(ranges: Ranges, at: int) -> tuple[Ranges, Ranges]:
    """Return what lies below ``at`` and what lies at or above it."""
    below = tuple((start, min(end, at)) for start, end in ranges if start < at)
    above = tuple((max(start, at), end) for start, end in ranges if end > at)
    return below, above


def within(events: Sequence[E], ranges: Iterable[tuple[int, int]]) -> list[E]:
    """Return the events (in offset order) whose offsets lie in ``ranges``."""
    kept: list[E] = []
    for start, end in ranges:
        first = bisect_left(events, start, key=_OFFSET)
        kept.extend(events[first : bisect_left(events, end, lo=first, key=_OFFSET)])
    return kept


class DoneOffsets:
    """The done offsets of one lane."""

    def __init__(self, progress: Progress) -> None:
        """Continue from what was stored."""
        self.prefix = progress.prefix
        # Two parallel lists instead of pairs: bisecting plain integers needs no key function.
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.add(progress.ranges)

    def add(self, ranges: Iterable[tuple[int, int]]) -> bool:
        """Mark these offsets as done, known ones again too; return True if the prefix grew."""
        before = self.prefix
        for start, end in ranges:
            if end > max(start, self.prefix):
                self._add(start, end)
        return self.prefix > before

    def _add(self, start: int, end: int) -> None:
        starts, ends = self._starts, self._ends
        first, last = bisect_left(ends, start), bisect_right(starts, end)
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last], ends[first:last] = [start], [end]
        if starts[0] <= self.prefix:
            self.prefix = ends[0]
            del starts[0], ends[0]

    def next_outstanding(self, offset: int) -> int:
        """Return the first offset at or after ``offset`` that is not done."""
        offset = max(offset, self.prefix)
        at = bisect_right(self._starts, offset) - 1
        return max(offset, self._ends[at]) if at >= 0 else offset

    def outstanding(self, events: Sequence[E], start: int) -> Sequence[E]:
        """Return the events (in offset order) at or after ``start`` that are not done."""
        if not events:
            return events
        start, end = max(start, self.prefix), events[-1].offset + 1
        first = bisect_right(self._ends, start)
        # Nearly every page lies above everything that is done: it is returned without a copy.
        if start <= events[0].offset and (first == len(self._ends) or self._starts[first] >= end):
            return events
        gaps = zip([start, *self._ends[first:]], [*self._starts[first:], end], strict=True)
        return within(events, ((a, min(b, end)) for a, b in gaps if a < min(b, end)))

    def progress(self) -> Progress:
        """Return what is to be stored."""
        return Progress(self.prefix, tuple(zip(self._starts, self._ends, strict=True)))
