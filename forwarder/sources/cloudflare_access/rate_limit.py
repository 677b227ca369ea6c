"""When the next request with a token may go.

One ``RateLimiter`` a token; everything that uses the token takes turns there:

    async with limiter.turn(Purpose.LIVE) as waited:
        ...                                   # one request
        limiter.heed(headers)                 # what the answer says about the quota

It counts requests in sliding windows, by the limits of the settings and those that Cloudflare
states, and holds everything back after a 429, as Cloudflare does. Live requests go whenever the
window has room. All others go at an even pace and leave a small reserve, so that a long catch-up
never makes a live poll wait for the window to move.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right, insort
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import blake2b
from math import ceil, inf
from typing import Any, NamedTuple

from forwarder.core.errors import NeedsOperatorError
from forwarder.core.source_contract import Purpose
from forwarder.core.timing import Clock
from forwarder.sources.cloudflare_access.account import AccountConfig, RateLimit

LONGEST_BLOCK = 600.0
"""Seconds; a longer wish of the other side is taken for a mistake."""
_LONG_WAIT, _TOLD_EVERY = 120.0, 60.0
"""Seconds after which a live request that still waits is reported, and how often then."""
_LONGEST_WINDOW = 3600.0
# Cloudflare documents a block of five minutes, so no guess needs to be longer.
_FIRST_BLOCK, _MOST_BLOCK = 60.0, 300.0
"""Seconds to hold back after a 429 that does not say for how long; doubled while it repeats."""
_RESERVE_DIVISOR = 50
_CREDIT_DIVISOR = 20
_KEY_BYTES = 8

# The IETF draft's letters: q and w are quota and window, r and t the rest and its reset.
_PARAMETER = re.compile(r"([a-z]+)\s*+=\s*+([0-9]{1,9})")


class Limit(NamedTuple):
    """At most ``requests`` in any window of ``per`` seconds."""

    requests: int
    per: float

    def shared(self, share: float) -> Limit:
        """Return the part of the limit that may be used, one request at least."""
        # The summand keeps 0.29 * 100 at 29: in binary the product is a little below it.
        return Limit(max(1, int(self.requests * share + 1e-9)), self.per)


class Remaining(NamedTuple):
    """``requests`` that Cloudflare still allows until ``reset`` seconds from now."""

    requests: int
    reset: float


def stated_limits(headers: Mapping[str, str]) -> tuple[Limit, ...]:
    """Return the limits in ``Ratelimit-Policy: "default";q=1200;w=300`` (a list).

    Ignores what cannot be read, and windows over an hour: the limits of the settings hold anyway.
    """
    found = (
        Limit(item["q"], float(item["w"]))
        for item in _items(headers.get("ratelimit-policy", ""))
        if item.keys() >= {"q", "w"}
    )
    return tuple(one for one in found if one.requests > 0 and 0 < one.per <= _LONGEST_WINDOW)


def stated_remaining(headers: Mapping[str, str]) -> Remaining | None:
    """Return the smallest rest in ``Ratelimit: "default";r=50;t=30`` (a list), or None."""
    found = [
        # Without the bound one answer with a wrong number would stop all reading for as long.
        Remaining(item["r"], min(float(item["t"]), LONGEST_BLOCK))
        for item in _items(headers.get("ratelimit", ""))
        if item.keys() >= {"r", "t"}
    ]
    return min(found, key=lambda one: one.requests, default=None)


def _items(text: str) -> list[dict[str, int]]:
    """Return the parameters of each item of a list; an item with anything else is left out."""
    items = (item.split(";") for item in text.lower().split(","))
    found = ([_PARAMETER.fullmatch(one.strip()) for one in parameters] for _, *parameters in items)
    return [{one[1]: int(one[2]) for one in item if one} for item in found if item and all(item)]


class _Waiting(NamedTuple):
    """A request in the queue; the smallest goes first."""

    purpose: Purpose
    urgency: float
    number: int


class RateLimiter:
    """The requests that one token may make. All times are seconds of ``clock.monotonic()``."""

    def __init__(self, clock: Clock, settings: Iterable[RateLimit] = ()) -> None:
        """Obey ``settings`` from the start; without any only a 429 holds requests back."""
        now = clock.monotonic()
        self._clock = clock
        self._share = 1.0
        self._own: tuple[Limit, ...] = ()
        self._stated: tuple[Limit, ...] = ()
        self._ended: list[float] = []
        self._running = 0
        self._remaining = 0
        self._remaining_until = now
        self._pace_from = now
        self._blocked_until = now
        self._unexplained = 0
        self._quiet_from = -inf
        self._queue: list[_Waiting] = []
        self._arrivals = 0
        self._changed = asyncio.Event()
        self.obey(settings)

    @property
    def left(self) -> int | None:
        """Return how many live requests could go at once, None for any number."""
        now, limits = self._clock.monotonic(), self._limits
        if not limits:
            return None
        left = [limit.requests - self._used(limit, now) for limit in limits]
        if now < self._remaining_until:  # what Cloudflare announced
            left.append(self._remaining)
        return max(0, min(left))

    @property
    def blocked_for(self) -> float:
        """Return for how many seconds more Cloudflare refuses the token."""
        return max(0.0, self._blocked_until - self._clock.monotonic())

    def obey(self, settings: Iterable[RateLimit]) -> None:
        """Obey all of these from now on: accounts may share a token and differ in settings."""
        limits = tuple(settings)
        began = not self._own
        self._share = min((limit.share for limit in limits), default=1.0)
        self._own = tuple(
            dict.fromkeys(Limit(one.requests, one.per).shared(one.share) for one in limits)
        )
        if began:
            # Nobody knows what went before a start: restarts in a row must not add up to a burst.
            self._pace_from = self._clock.monotonic() + self._credit()
        self._wake()

    @asynccontextmanager
    async def turn(
        self, purpose: Purpose, urgency: float = 0.0, tell: Callable[[float], None] | None = None
    ) -> AsyncIterator[float]:
        """Wait until one request may go; gives the seconds waited, and counts until it is left.

        Of equal ``purpose`` the smallest ``urgency`` goes first (the time at which rows expire
        unread), then whoever came first. While a live request waits for minutes, ``tell`` is called
        with the seconds so far, about once a minute.
        """
        waited = await self._enter(purpose, urgency, tell)
        try:
            yield waited
        finally:
            self._end()

    def heed(self, headers: Mapping[str, str]) -> None:
        """Obey what an answer says about the quota; called before its turn is left.

        Header names are in lower case. Without limits of the settings nothing is obeyed.
        """
        stated = tuple(limit.shared(self._share) for limit in stated_limits(headers))
        # An answer without the header says nothing new: what was stated last still holds.
        self._stated = stated or self._stated
        remaining = stated_remaining(headers)
        if remaining is not None:
            # The other requests on their way may not be counted in it yet.
            self._remaining = remaining.requests - max(0, self._running - 1)
            self._remaining_until = self._clock.monotonic() + remaining.reset
        self._wake()

    def block(self, retry_after: float | None) -> float:
        """Hold everything back after a 429; return for how many seconds from now.

        ``retry_after`` is the time that Cloudflare demands, or None.
        """
        now = self._clock.monotonic()
        if retry_after is None and not self.blocked_for:
            # Answers to requests that were on their way belong to the same block.
            repeated = now < self._quiet_from + _MOST_BLOCK
            self._unexplained = self._unexplained + 1 if repeated else 1
            retry_after = min(_MOST_BLOCK, _FIRST_BLOCK * 2.0 ** (self._unexplained - 1))
        self._hold(max(1.0, retry_after or 0.0))
        self._quiet_from = self._blocked_until
        self._wake()
        return self.blocked_for

    def snapshot(self) -> dict[str, Any]:
        """Return what a later process should know, as JSON: the block and the recent requests.

        Times are whole seconds of the wall clock, rounded up.
        """
        now, wall = self._clock.monotonic(), self._clock.now_us() / 1e6
        uses: dict[int, int] = {}
        for ended in self._ended:
            second = ceil(wall - (now - ended))
            uses[second] = uses.get(second, 0) + 1
        until = ceil(wall + self.blocked_for) if self.blocked_for else 0
        return {"blocked_until": until, "uses": [list(pair) for pair in uses.items()]}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Count what an earlier process did; called before the first turn."""
        now, wall = self._clock.monotonic(), self._clock.now_us() / 1e6
        self._hold(max(0.0, snapshot.get("blocked_until", 0) - wall))
        for second, count in snapshot.get("uses", ()):
            # A wall clock that was ahead then must not move a request into the future.
            self._ended += [min(now, now - (wall - second))] * count
        self._ended.sort()

    @property
    def _limits(self) -> tuple[Limit, ...]:
        return (*self._own, *self._stated) if self._own else ()

    def _hold(self, seconds: float) -> None:
        until = self._clock.monotonic() + min(seconds, LONGEST_BLOCK)
        self._blocked_until = max(self._blocked_until, until)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _enter(
        self, purpose: Purpose, urgency: float, tell: Callable[[float], None] | None
    ) -> float:
        """Wait in the queue; return for how many seconds."""
        self._arrivals += 1
        came, me = self._clock.monotonic(), _Waiting(purpose, urgency, self._arrivals)
        insort(self._queue, me)
        try:
            while (delay := self._delay(me)) > 0:
                await self._pause(min(delay, _TOLD_EVERY))
                waited = self._clock.monotonic() - came
                # Others wait behind live requests, and a long catch-up waits most of its time.
                if tell is not None and purpose is Purpose.LIVE and waited >= _LONG_WAIT:
                    tell(waited)
            self._begin(purpose)
            return self._clock.monotonic() - came
        finally:
            # Also when cancelled: whoever is next must not wait for a place that nobody holds.
            self._queue.remove(me)
            self._wake()

    def _begin(self, purpose: Purpose) -> None:
        self._running += 1
        self._remaining -= 1
        if purpose is not Purpose.LIVE and self._limits:
            self._pace_from = max(self._pace_from, self._clock.monotonic()) + self._gap()

    def _end(self) -> None:
        # A request counts from its start until a window after its end: Cloudflare counted it at
        # some moment between, so no window of theirs holds more than a window here.
        now = self._clock.monotonic()
        self._running -= 1
        self._ended.append(now)
        longest = max((limit.per for limit in self._limits), default=0.0)
        del self._ended[: bisect_right(self._ended, now - longest)]
        self._wake()

    def _delay(self, waiting: _Waiting) -> float:
        """Return in how many seconds a request may go if nothing changes before; 0 is now.

        Infinite while another one goes first, or must end first.
        """
        if self._queue[0] != waiting:
            return inf
        now, live = self._clock.monotonic(), waiting.purpose is Purpose.LIVE
        waits = [self.blocked_for, self._remaining_delay(now, live=live)]
        waits += [self._window_delay(limit, now, live=live) for limit in self._limits]
        if not live:
            waits.append(self._pace_from - self._credit() - now)
        return max(0.0, *waits)

    def _used(self, limit: Limit, now: float) -> int:
        return self._running + len(self._ended) - bisect_right(self._ended, now - limit.per)

    def _window_delay(self, limit: Limit, now: float, *, live: bool) -> float:
        most = limit.requests - (0 if live else limit.requests // _RESERVE_DIVISOR)
        surplus = self._used(limit, now) - most
        if surplus < 0:
            return 0.0
        leaving = bisect_right(self._ended, now - limit.per) + surplus
        return self._ended[leaving] + limit.per - now if leaving < len(self._ended) else inf

    def _remaining_delay(self, now: float, *, live: bool) -> float:
        if not self._own:
            return 0.0
        reserve = 0 if live else self._fewest() // _RESERVE_DIVISOR
        return self._remaining_until - now if self._remaining <= reserve else 0.0

    def _fewest(self) -> int:
        return min((limit.requests for limit in self._limits), default=0)

    def _gap(self) -> float:
        """Return the seconds between two requests at an even pace."""
        return max((limit.per / limit.requests for limit in self._limits), default=0.0)

    def _credit(self) -> float:
        """Return by how many seconds the pace may be caught up after a quiet time."""
        return self._gap() * max(1, self._fewest() // _CREDIT_DIVISOR)

    async def _pause(self, seconds: float) -> None:
        """Return after so long, or as soon as something changed."""
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._changed.wait())}
        if seconds < inf:
            waits.add(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


QUERIES = Limit(300, 300.0)
"""How many queries of GraphQL Cloudflare allows a user, beside the requests."""


class RateLimiters:
    """One limiter for each token; made once a process and shared by all accounts.

    Queries of GraphQL have a second one: Cloudflare counts them apart.
    """

    def __init__(self, clock: Clock, remembered: Mapping[str, Any] | None = None) -> None:
        """Take what ``snapshot`` gave an earlier process, if there was one."""
        self._clock = clock
        self._remembered = dict(remembered or {})
        self._limiters: dict[str, RateLimiter] = {}
        self._settings: dict[str, dict[str, RateLimit | None]] = {}

    def of(self, config: AccountConfig) -> RateLimiter:
        """Return the limiter of an account's token.

        It obeys the limits of all accounts with that token. Called again for an account whose
        settings changed, it obeys the new ones.
        """
        return self._limiter(credential_of(config), config, config.rate_limit)

    def of_queries(self, config: AccountConfig) -> RateLimiter:
        """Return the limiter of queries; ``share`` of the settings holds for it, too."""
        limit = config.rate_limit and config.rate_limit.model_copy(update=QUERIES._asdict())
        return self._limiter(f"{credential_of(config)}/queries", config, limit)

    def _limiter(self, key: str, config: AccountConfig, limit: RateLimit | None) -> RateLimiter:
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = self._limiters[key] = RateLimiter(self._clock)
            limiter.restore(self._remembered.pop(key, {}))
        settings = self._settings.setdefault(key, {})
        settings[config.account_id] = limit
        limiter.obey(limit for limit in settings.values() if limit is not None)
        return limiter

    def snapshot(self) -> dict[str, Any]:
        """Return what a later process should know, as JSON; it holds no secret."""
        return {key: limiter.snapshot() for key, limiter in self._limiters.items()}


def credential_of(config: AccountConfig) -> str:
    """Return a short hash that tells tokens apart and gives none away."""
    secret = config.api_token or config.api_key
    try:
        credential = secret.reveal() if secret else ""
    except NeedsOperatorError:
        # The file cannot be read at present; its path tells tokens apart as well.
        credential = str(secret)
    text = "\n".join((config.api_url, config.email or "", credential))
    return blake2b(text.encode(), digest_size=_KEY_BYTES).hexdigest()
