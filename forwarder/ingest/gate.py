"""Backpressure: no more rows are fetched while the journal is full."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from forwarder.core.clock import Clock
from forwarder.core.happenings import Report
from forwarder.ingest.happenings import GateMoved

_CLOSES, _OPENS, _PAUSES_BACKFILL = 0.95, 0.80, 0.50
_LOOK_S = 0.5


def moved(undelivered: int, limit: int, *, closed: bool) -> bool:
    """Return whether the gate is closed now: shuts near the limit, opens below 80 % of it.

    What is left above 95 % is for acknowledgements, gaps and dead letters.
    """
    return undelivered >= limit * (_OPENS if closed else _CLOSES)


class Gate:
    """Stands before every fetch; shared by all streams of the process."""

    def __init__(
        self, limit: int, measure: Callable[[], Awaitable[int]], clock: Clock, report: Report
    ) -> None:
        """Take ``journal.max_size`` in bytes and how to measure what is undelivered."""
        self._limit = limit
        self._measure = measure
        self._clock = clock
        self._report = report
        self.closed = False
        self._undelivered = 0
        self._measured = float("-inf")

    async def passage(self, *, backfill: bool = False, beat: Callable[[], None]) -> None:
        """Return once there is room; ``backfill`` waits already at half of the limit.

        ``beat`` is called while waiting, so that a closed gate does not look like a stuck loop.
        """
        await self._look()
        while self.closed or (backfill and self._undelivered >= self._limit * _PAUSES_BACKFILL):
            beat()
            await self._clock.sleep(_LOOK_S)
            await self._look()

    async def _look(self) -> None:
        """Measure, at most twice a second while there is much room and at every call near it."""
        now = self._clock.monotonic()
        if now - self._measured < _LOOK_S and self._undelivered < self._limit * _PAUSES_BACKFILL:
            return
        self._undelivered, self._measured = await self._measure(), now
        closed = moved(self._undelivered, self._limit, closed=self.closed)
        if closed != self.closed:
            self.closed = closed
            self._report(GateMoved(closed, self._undelivered, self._limit))
