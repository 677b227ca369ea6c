"""The rows of one stream, found by time, and times as the wire spells them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from heapq import heappop, heappush
from typing import Any

import orjson

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_moment(text: str) -> int:
    """Return the microseconds since the epoch of an RFC 3339 date-time; finer digits are cut off.

    Raises:
        ValueError: the text is no date-time, or lacks the offset that RFC 3339 requires.

    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError(f"{text!r} is not an RFC 3339 date-time")
    try:
        return (moment - _EPOCH) // _MICROSECOND
    except OverflowError as error:
        raise ValueError(str(error)) from error


def microseconds(seconds: float) -> int:
    """Return whole microseconds of an epoch time or duration in seconds."""
    return round(seconds * 1_000_000)


# Rows of one second are made together: nearly every call finds its text.
@lru_cache(maxsize=64)
def format_second(second: int) -> str:
    """Return `2026-07-02T15:03:00` for a whole epoch second, without fraction and offset."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def format_moment(time_us: int, digits: int = 6) -> str:
    """Return an RFC 3339 date-time in UTC with `digits` (0 to 6) fractional digits."""
    second, fraction = divmod(time_us, 1_000_000)
    text = format_second(second)
    return f"{text}.{fraction:06d}"[: len(text) + 1 + digits] + "Z" if digits else f"{text}Z"


Positions = range
"""Places in order of time; a range that runs backwards reads newest first."""

TimedRow = tuple[int, dict[str, Any]]
"""Microseconds since the epoch, and the row."""


class RowStore:
    """Row instances, numbered 0, 1, 2, ... in the order of adding; each serialised once.

    Two equal rows are two instances. Rows of one time keep the order in which they became visible.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.tags: list[str] = []
        """One text for each instance, to select rows without parsing: a SCIM row's provider."""
        self.known_tags: set[str] = set()
        self._times = array("q")
        self._ordered_times = array("q")
        self._order = array("Q")
        self._pending: list[tuple[float, int]] = []
        self._hidden: set[int] = set()
        self._additions: list[bytes] = []

    def __len__(self) -> int:
        return len(self.bodies)

    @property
    def visible(self) -> int:
        """How many instances a query could find."""
        return len(self._order)

    @property
    def pending(self) -> int:
        """How many instances are not visible yet."""
        return len(self._pending)

    @property
    def generation(self) -> int:
        """How many keys all rows have gained so far."""
        return len(self._additions)

    def add(
        self, body: bytes, time_us: int, *, tag: str = "", visible_at: float | None = None
    ) -> int:
        """Add an instance and return its number; it is hidden until `reveal(visible_at)`."""
        number = len(self.bodies)
        # A copy has its own size; what orjson returns holds some 4 KiB for a small row.
        self.bodies.append(bytes(memoryview(body)))
        self.tags.append(tag)
        self.known_tags.add(tag)
        self._times.append(time_us)
        if visible_at is None:
            self._insert(number)
        else:
            heappush(self._pending, (visible_at, number))
        return number

    def reveal(self, now: float) -> None:
        """Make the instances visible that are due at `now` (epoch seconds)."""
        while self._pending and self._pending[0][0] <= now:
            self._insert(heappop(self._pending)[1])

    def hide(self, number: int) -> None:
        """Remove an instance from every later answer."""
        self._hidden.add(number)
        time_us = self._times[number]
        start = bisect_left(self._ordered_times, time_us)
        stop = bisect_right(self._ordered_times, time_us)
        # An instance that is not visible yet is not in the order; `_insert` will skip it.
        if number in self._order[start:stop]:
            place = self._order.index(number, start, stop)
            del self._order[place], self._ordered_times[place]

    def is_hidden(self, number: int) -> bool:
        """Return True if an instance was removed."""
        return number in self._hidden

    def add_key(self, key: str, value: object) -> None:
        """Append one more key to every row from now on."""
        self._additions.append(orjson.dumps({key: value})[1:-1])

    def time_of(self, number: int) -> int:
        """Return the time of an instance in microseconds."""
        return self._times[number]

    def between(
        self, since_us: int | None, until_us: int | None, *, inclusive_since: bool = True
    ) -> Positions:
        """Return the places of the visible rows in a window that includes `until_us`."""
        find = bisect_left if inclusive_since else bisect_right
        # Bounds are searched, not scanned: a history has millions of rows.
        start = 0 if since_us is None else find(self._ordered_times, since_us)
        stop = len(self._order) if until_us is None else bisect_right(self._ordered_times, until_us)
        return range(start, max(start, stop))

    def at(self, position: int) -> int:
        """Return the number of the instance at a place."""
        return self._order[position]

    def body(self, number: int, generation: int | None = None) -> bytes:
        """Return a row as it is served, or as it was when rows had gained `generation` keys."""
        return self._grown(self.bodies[number], b",".join(self._additions[:generation]))

    def served(self, numbers: Sequence[int]) -> list[bytes]:
        """Return rows as they are served."""
        bodies = [self.bodies[number] for number in numbers]
        if not self._additions:
            return bodies
        addition = b",".join(self._additions)
        return [self._grown(body, addition) for body in bodies]

    @staticmethod
    def _grown(body: bytes, addition: bytes) -> bytes:
        # As text: the row may be one that no parser accepts.
        if not addition or not body.endswith(b"}"):
            return body
        return body[:-1] + (b"," if len(body) > len(b"{}") else b"") + addition + b"}"

    def _insert(self, number: int) -> None:
        if number in self._hidden:
            return
        time_us = self._times[number]
        # Traffic comes in order of time: nearly every row is appended.
        if not self._ordered_times or self._ordered_times[-1] <= time_us:
            self._ordered_times.append(time_us)
            self._order.append(number)
            return
        place = bisect_right(self._ordered_times, time_us)
        self._ordered_times.insert(place, time_us)
        self._order.insert(place, number)
