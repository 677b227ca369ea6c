"""Several addresses of one destination: which one is next, and which one rests after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from forwarder.core.errors import TransientError
from forwarder.core.timing import Clock

REST = 30.0
"""Seconds for which a failed address is passed over while another one works."""


def choose(rests_until: Sequence[float], now: float, start: int = 0) -> int:
    """Return the index of the address to use at ``now`` (monotonic seconds).

    The first one from ``start`` on, going round, that does not rest; if all do, the one whose rest
    ends first. ``rests_until`` has one time an address and at least one address.
    """
    count = len(rests_until)
    order = [(start + step) % count for step in range(count)]
    return min(order, key=lambda index: max(rests_until[index], now))


class Endpoints:
    """The addresses of one sink and how each is doing."""

    def __init__(self, urls: Sequence[str], clock: Clock, *, spread: bool = False) -> None:
        """Take the addresses in order of preference; ``spread`` uses them in turn instead."""
        self.urls = tuple(urls)
        self._clock = clock
        self._spread = spread
        self._turn = 0
        self._rests_until = [0.0] * len(self.urls)

    def next(self) -> str:
        """Return the address for the next request."""
        index = choose(self._rests_until, self._clock.monotonic(), self._turn)
        if self._spread:
            self._turn = (index + 1) % len(self.urls)
        return self.urls[index]

    def failed(self, url: str) -> None:
        """Let ``url`` rest; the engine's next attempt goes elsewhere."""
        self._rests_until[self.urls.index(url)] = self._clock.monotonic() + REST

    def answered(self, url: str) -> None:
        """Take ``url`` as healthy from now on."""
        self._rests_until[self.urls.index(url)] = 0.0

    async def probe(self, check: Callable[[str], Awaitable[None]]) -> None:
        """Check all addresses at once; one that works is enough.

        Raises what the first address in order of preference raised when none works.
        """
        results = await asyncio.gather(*(check(url) for url in self.urls), return_exceptions=True)
        faults: list[TransientError] = []
        for url, result in zip(self.urls, results, strict=True):
            if isinstance(result, TransientError):
                self.failed(url)
                faults.append(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                self.answered(url)
        if len(faults) == len(self.urls):
            raise faults[0]
