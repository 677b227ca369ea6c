"""The request budget of a token.

What Cloudflare says about a token's quota, in numbers; pure.

Every answer carries ``Ratelimit: "default";r=50;t=30`` (requests left, seconds until some come
back) and ``Ratelimit-Policy: "default";q=1200;w=300`` (requests in any window of seconds), each
a list. What cannot be read is ignored: the quota from the settings holds anyway.

When may the next request go? A log of those that went, and what Cloudflare said; pure.

All times are seconds of one monotonic clock and never go back. The log counts a request from its
start until ``per`` seconds after its *end*: Cloudflare counted it at some moment between, so no
window of Cloudflare's clock can hold more than a window of this log.

Live requests may go whenever the window has room. Everything else goes at an even pace and leaves
a small reserve, so that a long catching-up never makes a live poll wait for the window to move.

One budget for each token: everything that uses the token asks it for a turn.

    async with budget.turn(Priority.LIVE) as turn:
        ...                                   # one request
        budget.heed(headers)                  # what the answer says about the quota

``Ledger`` decides, this waits. A 429 blocks everything with the token, as Cloudflare does.

All budgets of a process: accounts that use one token share one.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from math import ceil, inf
from types import TracebackType
from typing import Any, NamedTuple, Self

from forwarder.core.errors import NeedsOperatorError
from forwarder.core.timing import Clock
from forwarder.sources.cloudflare_access.account import AccountConfig, RateLimit

_ITEM = re.compile(r'\s*"?([^",;=]*)"?((?:\s*;\s*[a-z]+\s*=\s*\d{1,9})*)\s*')
_PARAMETER = re.compile(r"([a-z]+)\s*=\s*(\d+)")
_LONGEST_WINDOW = 3600.0


class Limit(NamedTuple):
    """At most ``requests`` in any window of ``per`` seconds."""

    requests: int
    per: float

    def shared(self, share: float) -> Limit:
        """Return the part of it that may be used, one request at least."""
        return Limit(max(1, int(self.requests * share + 1e-9)), self.per)


@dataclass(frozen=True, slots=True)
class Standing:
    """``remaining`` requests until ``reset`` seconds from now."""

    remaining: int
    reset: float


def policies(headers: Mapping[str, str]) -> tuple[Limit, ...]:
    """Return the quotas that an answer states; windows over an hour are not believed."""
    found = (
        Limit(item["q"], float(item["w"]))
        for item in _items(headers.get("ratelimit-policy", ""))
        if item.keys() >= {"q", "w"}
    )
    return tuple(one for one in found if one.requests > 0 and 0 < one.per <= _LONGEST_WINDOW)


def standing(headers: Mapping[str, str]) -> Standing | None:
    """Return what is left by the tightest of the quotas that an answer tells about."""
    found = [
        Standing(item["r"], min(float(item["t"]), _LONGEST_WINDOW))
        for item in _items(headers.get("ratelimit", ""))
        if item.keys() >= {"r", "t"}
    ]
    return min(found, key=lambda one: one.remaining, default=None)


def _items(text: str) -> list[dict[str, int]]:
    matches = (_ITEM.fullmatch(part) for part in text.lower().split(","))
    return [
        {name: int(digits) for name, digits in _PARAMETER.findall(match[2])}
        for match in matches
        if match
    ]


LONGEST_BLOCK = 600.0
"""Seconds; a longer wish of the other side is taken for a mistake."""

_RESERVE_DIVISOR = 50
_CREDIT_DIVISOR = 20


class Priority(IntEnum):
    """Who goes first on one token."""

    LIVE = 0
    RETENTION = 1
    """Behind, so that rows may expire unread; the nearest to that goes first."""
    RECONCILE = 2
    BACKFILL = 3


class Ledger:
    """The log of one token. It begins without credit: what went before a start is not known."""

    def __init__(self, now: float, limits: Sequence[Limit] = ()) -> None:
        self._told: tuple[Limit, ...] = ()
        self._limits: tuple[Limit, ...] = ()
        self._ended: list[float] = []
        self._running = 0
        self._blocked_until = now
        self._held_until = now
        self._remaining = 0
        self._pace_from = now
        self.limit_to(limits)
        self._pace_from = now + self._credit()

    def limit_to(self, limits: Iterable[Limit]) -> None:
        """Obey these limits, instead of those of the settings so far."""
        self._own = tuple(dict.fromkeys(limits))
        self._limits = (*self._own, *self._told) if self._own else ()

    def learn(self, limits: tuple[Limit, ...]) -> None:
        """Obey what Cloudflare states beside the own limits, until it states others.

        Without own limits it is not obeyed: then only a block holds anything back.
        """
        if limits and limits != self._told:
            self._told = limits
            self.limit_to(self._own)

    def stand(self, standing: Standing, now: float) -> None:
        """Let no more go until the reset than Cloudflare says are left.

        Called before the ``end`` of the request whose answer said so.
        """
        if self._own:
            self._remaining = standing.remaining - max(0, self._running - 1)
            self._held_until = now + standing.reset

    def block(self, seconds: float, now: float) -> None:
        """Let nothing go for so long, ten minutes at most."""
        self._blocked_until = max(self._blocked_until, now + min(seconds, LONGEST_BLOCK))

    def blocked_for(self, now: float) -> float:
        """Return for how many seconds more nothing goes."""
        return max(0.0, self._blocked_until - now)

    def delay(self, priority: Priority, now: float) -> float:
        """Return in how many seconds a request may go if nothing changes before; 0 is now.

        It is infinite when one of those that run must end first.
        """
        live = priority is Priority.LIVE
        waits = [self.blocked_for(now), self._standing_delay(now, live=live)]
        waits += [self._window_delay(limit, now, live=live) for limit in self._limits]
        if not live:
            waits.append(self._pace_from - self._credit() - now)
        return max(0.0, *waits)

    def begin(self, priority: Priority, now: float) -> None:
        """Note that a request goes now."""
        self._running += 1
        self._remaining -= 1
        if priority is not Priority.LIVE and self._limits:
            self._pace_from = max(self._pace_from, now) + self._gap()

    def end(self, now: float) -> None:
        """Note that a request is over, answered or not."""
        self._running -= 1
        self._ended.append(now)
        longest = max((limit.per for limit in self._limits), default=0.0)
        del self._ended[: bisect_right(self._ended, now - longest)]

    def left(self, now: float) -> int | None:
        """Return how many live requests could go at once, None for any number."""
        if not self._limits:
            return None
        return max(0, min(limit.requests - self._used(limit, now) for limit in self._limits))

    def recent(self) -> list[float]:
        """Return when the counted requests ended, oldest first."""
        return list(self._ended)

    def recall(self, ended: Iterable[float], now: float) -> None:
        """Count requests of an earlier process, given by when they ended on this clock."""
        self._ended = sorted([*self._ended, *(min(moment, now) for moment in ended)])

    def _used(self, limit: Limit, now: float) -> int:
        recent = len(self._ended) - bisect_right(self._ended, now - limit.per)
        return self._running + recent

    def _window_delay(self, limit: Limit, now: float, *, live: bool) -> float:
        most = limit.requests - (0 if live else limit.requests // _RESERVE_DIVISOR)
        surplus = self._used(limit, now) - most
        if surplus < 0:
            return 0.0
        leaving = bisect_right(self._ended, now - limit.per) + surplus
        return self._ended[leaving] + limit.per - now if leaving < len(self._ended) else inf

    def _standing_delay(self, now: float, *, live: bool) -> float:
        fewest = min((limit.requests for limit in self._limits), default=0)
        reserve = 0 if live else fewest // _RESERVE_DIVISOR
        return self._held_until - now if self._remaining <= reserve else 0.0

    def _gap(self) -> float:
        """Return the seconds between two requests at an even pace."""
        return max((limit.per / limit.requests for limit in self._limits), default=0.0)

    def _credit(self) -> float:
        """Return by how many seconds the pace may be caught up after a quiet time."""
        fewest = min((limit.requests for limit in self._limits), default=0)
        return self._gap() * max(1, fewest // _CREDIT_DIVISOR)


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


_KEY_BYTES = 8


class Budgets:
    """Made once by whoever makes the sources, and handed to each."""

    def __init__(self, clock: Clock, remembered: Mapping[str, Any] | None = None) -> None:
        """Take what ``snapshot`` gave an earlier process, if there was one."""
        self._clock = clock
        self._remembered = dict(remembered or {})
        self._budgets: dict[str, Budget] = {}
        self._limits: dict[str, dict[str, RateLimit | None]] = {}

    def of(self, config: AccountConfig) -> Budget:
        """Return the budget of an account's token.

        It obeys the limits of all accounts with that token; asked again for an account, with
        settings that were changed, it obeys the new ones.
        """
        key = _key(config)
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = Budget(config.rate_limit, self._clock)
            budget.restore(self._remembered.pop(key, {}))
        limits = self._limits.setdefault(key, {})
        limits[config.account_id] = config.rate_limit
        budget.limit_to(limit for limit in limits.values() if limit is not None)
        return budget

    def snapshot(self) -> dict[str, Any]:
        """Return what a later process should know, as JSON; it holds no secret."""
        return {key: budget.snapshot() for key, budget in self._budgets.items()}


def _key(config: AccountConfig) -> str:
    """Return a short hash that tells tokens apart and gives none away."""
    secret = config.api_token or config.api_key
    try:
        credential = secret.reveal() if secret else ""
    except NeedsOperatorError:
        credential = str(secret)
    text = "\n".join((config.api_url, config.email or "", credential))
    return blake2b(text.encode(), digest_size=_KEY_BYTES).hexdigest()
