"""A clock for tests: hours pass in milliseconds, and always in the same order."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

_START_US = 1_767_225_600_000_000


class FakeClock:
    """A ``Clock`` whose time stands still while any task has work to do.

    When every task waits and at least one sleeps on this clock, time jumps to the moment at which
    the first sleeper wakes. So code with timeouts and backoff runs at full speed and ends the same
    way each time::

        clock = FakeClock()
        started = clock.monotonic()
        await clock.sleep(3600)  # returns at once
        assert clock.monotonic() - started == 3600

    Tasks count as waiting after ``patience`` turns of the event loop in which no task began to
    sleep. That holds for fakes in memory. Waiting for threads or sockets is not detected: there use
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
        """Return the seconds since this clock was created."""
        return self._elapsed

    @property
    def sleepers(self) -> int:
        """Return how many tasks sleep on this clock."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until ``seconds`` have passed on this clock."""
        if seconds <= 0:
            # As asyncio's own sleep: no time passes, but the other tasks get a turn.
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        # The counter keeps sleepers of one moment in order; futures cannot be compared.
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        self._watch()
        await future

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, and wake the tasks whose time has come."""
        self._elapsed += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            self._wake(heapq.heappop(self._sleepers)[2])

    def _watch(self) -> None:
        # A task that goes to sleep has just worked, so others may have work, too: count from 0.
        self._turns = 0
        if self._patience is not None and not self._watching:
            self._watching = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        # Cancelled sleepers must not stop the clock, nor make it jump.
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
