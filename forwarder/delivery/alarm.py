"""Waiting for whichever comes first: something happens, or a moment is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forwarder.core.timing import Clock


class Alarm:
    """A bell for one listener, with at most one timer task behind it."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is set."""
        self._clock = clock
        self._bell = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None
        self._at = 0.0

    def ring(self) -> None:
        """Wake the listener, or let its next wait return at once."""
        self._bell.set()

    def clear(self) -> None:
        """Forget that it rang; called before looking at what there is to do, never after."""
        self._bell.clear()

    async def wait(self, until: float | None) -> None:
        """Return when it rings or the monotonic clock reaches ``until`` (None: never).

        May return early; whoever waits looks again at what there is to do.
        """
        if self._bell.is_set():
            return
        if until is not None:
            self._arm(until)
        await self._bell.wait()

    async def until(self, done: Callable[[], bool], deadline: float) -> bool:
        """Wait until ``done()``, looked at whenever it rings, or the deadline; say which."""
        while not done():
            if self._clock.monotonic() >= deadline:
                return False
            self.clear()
            await self.wait(deadline)
        return True

    def stop(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        # A timer that fires too early costs one look around; replacing it each time costs more.
        if self._timer is not None and not self._timer.done():
            if self._at <= at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = asyncio.create_task(self._ring_at(at), name="delivery alarm")

    async def _ring_at(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._clock.monotonic()))
        self._bell.set()
