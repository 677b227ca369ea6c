"""How fast a number grows, seen from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

_LOOK = 0.5
_STANDSTILL = 120.0
_ENOUGH = 4

Look = tuple[float, int]
"""Seconds, and how many events there were by then."""


def until(count: int, look: Callable[[], int]) -> float:
    """Look until the number is ``count``; return how much it grew a second.

    Raises ``TimeoutError`` when nothing has come for two minutes.
    """
    zero, seen = (time.monotonic(), 0), list[Look]()
    moved = zero[0]
    while not seen or seen[-1][1] < count:
        number, now = look(), time.monotonic()
        if not number:
            zero = (now, 0)
        elif not seen or number > seen[-1][1]:
            seen.append((now, number))
            moved = now
        if now - moved > _STANDSTILL:
            raise TimeoutError(f"only {number} of {count} events have come")
        if number < count:
            time.sleep(_LOOK)  # noqa: TID251 - nothing else runs here
    return growth([zero, *seen])


def growth(looks: Sequence[Look]) -> float:
    """Return events a second; ``looks`` begin with the last one that saw nothing.

    Counted from the first look that saw any to the last that did not see all, so that neither
    the start nor the time between looks matters; over all where there are few.
    """
    first, last = (looks[1], looks[-2]) if len(looks) >= _ENOUGH else (looks[0], looks[-1])
    return (last[1] - first[1]) / (last[0] - first[0])
