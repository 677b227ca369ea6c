"""Time that passes only when a test says so, on an event loop that does no I/O."""

import asyncio
import heapq
from itertools import count

_QUIET_TURNS = 9
_MOST_TURNS = 200_000


class VirtualClock:
    """Wall and monotonic clock in one; sleepers wake in the order of their time."""

    def __init__(self, start_us: int) -> None:
        self._start_us = start_us
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self.local_shift_us = 0
        """How wrong this machine's wall clock is."""
        self.activity = 0

    @property
    def true_us(self) -> int:
        """What time it really is, in microseconds since 1970."""
        return self._start_us + round(self._elapsed * 1_000_000)

    def now_us(self) -> int:
        return self.true_us + self.local_shift_us

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self.activity += 1
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(
            self._sleepers, (self._elapsed + max(0.0, seconds), next(self._numbers), future)
        )
        await future

    async def settle(self) -> None:
        """Let everything run that can run without time passing."""
        quiet, seen = 0, self.activity
        for _ in range(_MOST_TURNS):
            await asyncio.sleep(0)
            quiet = quiet + 1 if seen == self.activity else 0
            seen = self.activity
            if quiet >= _QUIET_TURNS:
                return
        raise AssertionError("the program under test never comes to rest")

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, waking every sleeper at its time."""
        until = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._elapsed = max(self._elapsed, due)
            future.set_result(None)
            await self.settle()
        self._elapsed = until
