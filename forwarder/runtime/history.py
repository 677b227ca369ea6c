"""The last hour in memory, a point every fifteen seconds: what the status page draws.

Bounded: a point has a few numbers a stream name and a sink, whatever the number of accounts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from forwarder.core.contracts import LIVE
from forwarder.observe import Metrics, summed
from forwarder.runtime.snapshot import Snapshot, backlog, oldest_age

INTERVAL = 15.0
_HOUR = 3600.0

Series: TypeAlias = tuple[str, str, str]
"""Group (``streams``, ``sinks``), name, measure."""


@dataclass(frozen=True, slots=True)
class Point:
    """One moment: ``levels`` are shown as they are, ``totals`` as their rate a second."""

    time: float
    levels: Mapping[Series, float]
    totals: Mapping[Series, float]


class History:
    """Keeps the points of an hour."""

    def __init__(self, interval: float = INTERVAL) -> None:
        """Expect a point every ``interval`` seconds."""
        self.interval = interval
        self._points: deque[Point] = deque(maxlen=round(_HOUR / interval) + 1)

    def add(self, point: Point) -> None:
        """Take the newest point; the oldest goes when the hour is full."""
        self._points.append(point)

    def as_json(self) -> dict[str, Any]:
        """Return ``times`` (seconds since 1970) and one list a measure, with None for unknown."""
        points = list(self._points)
        rates = [dict[Series, float](), *(_rates(*two) for two in pairwise(points))]
        values = [{**point.levels, **rate} for point, rate in zip(points, rates, strict=False)]
        found: dict[str, Any] = {"streams": {}, "sinks": {}}
        for group, name, measure in _names(points):
            series = [one.get((group, name, measure)) for one in values]
            found[group].setdefault(name, {})[measure] = series
        times = [round(point.time, 3) for point in points]
        return {"interval_seconds": self.interval, "times": times, **found}


def point_of(snapshot: Snapshot, metrics: Metrics) -> Point:
    """Return the point of a snapshot; streams of one name are one series, the worst lag counts."""
    levels: dict[Series, float] = {}
    for stream in snapshot.streams:
        covered = stream.covered_until.get(LIVE)
        if covered is not None:
            lag = ("streams", stream.stream, "lag_seconds")
            age = round((snapshot.now_us - covered) / 1_000_000, 1)
            levels[lag] = max(levels.get(lag, 0.0), age)
    for sink in snapshot.sinks:
        levels["sinks", sink.name, "backlog_events"] = backlog(snapshot, sink.name)
        levels["sinks", sink.name, "oldest_seconds"] = round(oldest_age(snapshot, sink.name), 1)
    totals = {
        **{
            ("streams", name, "new_per_second"): total
            for name, total in summed(metrics.rows_new, "stream").items()
        },
        **{
            ("sinks", name, "delivered_per_second"): total
            for name, total in summed(metrics.delivered, "sink").items()
        },
    }
    return Point(snapshot.now_us / 1_000_000, levels, totals)


def _rates(before: Point, after: Point) -> dict[Series, float]:
    """Return increases a second; a counter that was not there yet began at zero."""
    seconds = after.time - before.time
    if seconds <= 0:
        return {}
    return {
        series: round(max(0.0, total - before.totals.get(series, 0.0)) / seconds, 3)
        for series, total in after.totals.items()
    }


def _names(points: Sequence[Point]) -> list[Series]:
    """Return every series that some point has, sorted."""
    return sorted({series for point in points for series in (*point.levels, *point.totals)})
