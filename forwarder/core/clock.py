"""Time as an argument: the real clock here, a fake one in ``forwarder.testing``."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time, elapsed time and waiting."""

    def now_us(self) -> int:
        """Return the wall clock in microseconds since 1970, UTC. It may jump."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only ever grow; their origin means nothing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellation is passed on."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        """Return the wall clock in microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return the machine's monotonic clock in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(seconds)
