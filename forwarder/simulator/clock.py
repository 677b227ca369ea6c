"""Where the simulator gets its time from.

Everything that depends on time (live rows, visibility, retention, the rate policy, the `Date`
header) asks one clock, so a test can move all of it at once and the simulated server's clock may
differ from the clock of the machine.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the simulated server's time."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""


class SystemClock:
    """The machine's clock, shifted by `offset` seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset

    def now(self) -> float:
        """Return the machine's time and the offset."""
        return time.time() + self._offset


class ManualClock:
    """A clock that stands still until it is moved; for tests."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        """Return the time it was set or moved to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds`, which may be negative."""
        self._now += seconds
