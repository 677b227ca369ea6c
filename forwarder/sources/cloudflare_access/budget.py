"""One budget for each token: everything that uses the token asks it for a turn.

    async with budget.turn(Priority.LIVE) as turn:
        ...                                   # one request
        budget.heed(headers)                  # what the answer says about the quota

``Ledger`` decides, this waits. A 429 blocks everything with the token, as Cloudflare does.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Iterable, Mapping
from math import ceil, inf
from types import TracebackType
from typing import Any, NamedTuple, Self

from forwarder.core.clock import Clock
from forwarder.sources.cloudflare_access.account import RateLimit
from forwarder.sources.cloudflare_access.ledger import Ledger, Priority
from forwarder.sources.cloudflare_access.quota import Limit, policies, standing

__all__ = ["Budget", "Priority", "Turn"]

_FIRST_BLOCK, _MOST_BLOCK = 60.0, 300.0
"""Seconds to hold back after a 429 that does not say for how long; doubled while it repeats."""


class _Place(NamedTuple):
    """A place in the queue; the smallest is served first."""

    priority: Priority
    urgency: float
    number: int


class Budget:
    """The requests that one token still has."""

    def __init__(self, rate_limit: RateLimit | None, clock: Clock) -> None:
        """Take the limit of the settings; None waits only after a 429."""
        self._clock = clock
        self._share = rate_limit.share if rate_limit else 1.0
        self._ledger = Ledger(clock.monotonic(), [_limit(rate_limit)] if rate_limit else ())
        self._queue: list[_Place] = []
        self._arrivals = 0
        self._unexplained = 0
        self._quiet_from = -inf
        self._news = asyncio.Event()

    @property
    def left(self) -> int | None:
        """Return how many live requests could go at once, None for any number."""
        return self._ledger.left(self._clock.monotonic())

    @property
    def blocked_for(self) -> float:
        """Return for how many seconds more Cloudflare refuses the token."""
        return self._ledger.blocked_for(self._clock.monotonic())

    def limit_to(self, rate_limits: Iterable[RateLimit]) -> None:
        """Obey all of these from now on: accounts may share a token and differ in settings."""
        limits = tuple(rate_limits)
        self._share = min((limit.share for limit in limits), default=1.0)
        self._ledger.limit_to(map(_limit, limits))
        self._wake()

    def turn(self, priority: Priority, urgency: float = 0.0) -> Turn:
        """Return a turn to enter: it waits until one request may go.

        Among equals of ``priority`` the smallest ``urgency`` goes first (seconds until rows expire
        unread), then whoever came first.
        """
        self._arrivals += 1
        return Turn(self, _Place(priority, urgency, self._arrivals))

    def heed(self, headers: Mapping[str, str]) -> None:
        """Obey what an answer's headers (names in lower case) say about the quota."""
        self._ledger.learn(tuple(limit.shared(self._share) for limit in policies(headers)))
        told = standing(headers)
        if told is not None:
            self._ledger.stand(told, self._clock.monotonic())
        self._wake()

    def block(self, retry_after: float | None) -> float:
        """Hold everything back after a 429; returns for how many seconds from now.

        ``retry_after`` is what Cloudflare asked for, if it did.
        """
        now = self._clock.monotonic()
        if retry_after is None and not self._ledger.blocked_for(now):
            repeated = now < self._quiet_from + _MOST_BLOCK
            self._unexplained = self._unexplained + 1 if repeated else 1
            retry_after = min(_MOST_BLOCK, _FIRST_BLOCK * 2.0 ** (self._unexplained - 1))
        self._ledger.block(max(1.0, retry_after or 0.0), now)
        self._quiet_from = now + self._ledger.blocked_for(now)
        self._wake()
        return self._ledger.blocked_for(now)

    def snapshot(self) -> dict[str, Any]:
        """Return what a later process should know, as JSON: the block and the recent requests.

        Times are whole seconds of the wall clock, rounded to the later side.
        """
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        uses: dict[int, int] = {}
        for ended in self._ledger.recent():
            second = ceil(now_us / 1e6 - (now - ended))
            uses[second] = uses.get(second, 0) + 1
        until = ceil(now_us / 1e6 + self._ledger.blocked_for(now)) if self.blocked_for else 0
        return {"blocked_until": until, "uses": [list(pair) for pair in uses.items()]}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Remember what an earlier process knew; called before the first turn."""
        now, wall = self._clock.monotonic(), self._clock.now_us() / 1e6
        self._ledger.block(max(0.0, snapshot.get("blocked_until", 0) - wall), now)
        self._ledger.recall(
            (
                now - (wall - second)
                for second, count in snapshot.get("uses", ())
                for _ in range(count)
            ),
            now,
        )

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _enter(self, place: _Place) -> float:
        """Wait in the queue; returns for how many seconds."""
        came = self._clock.monotonic()
        insort(self._queue, place)
        try:
            while (delay := self._delay(place)) > 0:
                await self._pause(delay)
            now = self._clock.monotonic()
            self._ledger.begin(place.priority, now)
            return now - came
        finally:
            self._queue.remove(place)
            self._wake()

    def _leave(self) -> None:
        self._ledger.end(self._clock.monotonic())
        self._wake()

    def _delay(self, place: _Place) -> float:
        if self._queue[0] != place:
            return inf
        return self._ledger.delay(place.priority, self._clock.monotonic())

    async def _pause(self, seconds: float) -> None:
        """Return after so long, or as soon as something changed."""
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._news.wait())}
        if seconds < inf:
            waits.add(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _limit(rate_limit: RateLimit) -> Limit:
    return Limit(rate_limit.requests, rate_limit.per).shared(rate_limit.share)


class Turn:
    """One request's turn; entered, it counts against the budget until it is left."""

    def __init__(self, budget: Budget, place: _Place) -> None:
        self._budget = budget
        self._place = place
        self.waited = 0.0
        """Seconds that the budget held the request back."""

    async def __aenter__(self) -> Self:
        """Wait until the request may go."""
        self.waited = await self._budget._enter(self._place)  # noqa: SLF001 - two halves of one
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count the request from now on as past."""
        self._budget._leave()  # noqa: SLF001 - as above
