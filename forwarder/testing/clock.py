"""A clock for tests: hours pass in milliseconds, and always in the same order."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

_START_US = 1_767_225_600_000_000


class FakeClock:
    """A ``Clock`` whose time stands still while anything has work to do.

    When every task waits and somebody sleeps here, time jumps to the moment at which the first
    sleeper wakes. So code with time-outs and backoff runs at full speed and ends the same way
    each time::

        clock = FakeClock()
        started = clock.monotonic()
        await clock.sleep(3600)  # returns at once
        assert clock.monotonic() - started == 3600

    Idle is: ``patience`` turns of the event loop passed and nobody began to sleep meanwhile. That
    holds for fakes in memory. What waits for threads or sockets is not seen; with such things use
    ``FakeClock(patience=None)`` and move time by hand with ``advance``.
    """

    def __init__(self, now_us: int = _START_US, *, patience: int | None = 50) -> None:
        """Start at ``now_us`` (microseconds since 1970), by default 2026-01-01T00:00:00Z."""
        self._start_us = now_us
        self._elapsed = 0.0
        self._patience = patience
        self._turns = 0
        self._watching = False
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_us(self) -> int:
        """Return microseconds since 1970."""
        return self._start_us + round(self._elapsed * 1_000_000)

    def monotonic(self) -> float:
        """Return the seconds that have passed since this clock was made."""
        return self._elapsed

    @property
    def sleepers(self) -> int:
        """Return how many sleep at this moment."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until ``seconds`` have passed on this clock."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        self._watch()
        await future

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass; who sleeps less long than that wakes up."""
        self._elapsed += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            self._wake(heapq.heappop(self._sleepers)[2])

    def _watch(self) -> None:
        self._turns = 0
        if self._patience is not None and not self._watching:
            self._watching = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        if not self._sleepers:
            self._watching = False
            return
        self._turns += 1
        if self._turns > (self._patience or 0):
            self._turns = 0
            self.advance(max(0.0, self._sleepers[0][0] - self._elapsed))
        asyncio.get_running_loop().call_soon(self._look)

    @staticmethod
    def _wake(sleeper: asyncio.Future[None]) -> None:
        if not sleeper.done():
            sleeper.set_result(None)
