"""The last hour: what the status page draws."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

Series: TypeAlias = tuple[str, str, str]
"""Group (``streams``, ``sinks``), name, measure."""

INTERVAL = 15.0
"""Seconds between two points."""
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Point:
    """One moment: ``levels`` are shown as they are, ``totals`` as their rate per second."""

    time: float
    levels: Mapping[Series, float]
    totals: Mapping[Series, float]


class History:
    """The last hour in memory, which the status page draws; bounded."""

    def __init__(self) -> None:
        """Have no points yet."""
        self._points: deque[Point] = deque(maxlen=round(_HOUR / INTERVAL) + 1)

    def add(self, point: Point) -> None:
        """Take the newest point; the oldest goes when the hour is full."""
        self._points.append(point)

    def as_json(self) -> dict[str, Any]:
        """Return ``times`` (seconds since 1970) and one list for each measure; None is unknown."""
        points = list(self._points)
        rates = [dict[Series, float](), *(_rates(*two) for two in pairwise(points))]
        values = [{**point.levels, **rate} for point, rate in zip(points, rates, strict=False)]
        found: dict[str, Any] = {"streams": {}, "sinks": {}}
        names = {series for point in points for series in (*point.levels, *point.totals)}
        for group, name, measure in sorted(names):
            series = [one.get((group, name, measure)) for one in values]
            found[group].setdefault(name, {})[measure] = series
        times = [round(point.time, 3) for point in points]
        return {"interval_seconds": INTERVAL, "times": times, **found}


def _rates(before: Point, after: Point) -> dict[Series, float]:
    """Return increases per second; a counter that was not there before began at zero."""
    # The wall clock may have been set back between two points.
    seconds = after.time - before.time
    if seconds <= 0:
        return {}
    return {
        # Never negative: a counter whose series was removed starts again at zero.
        series: round(max(0.0, total - before.totals.get(series, 0.0)) / seconds, 3)
        for series, total in after.totals.items()
    }
