"""When may the next request go? A log of those that went, and what Cloudflare said; pure.

All times are seconds of one monotonic clock and never go back. The log counts a request from its
start until ``per`` seconds after its *end*: Cloudflare counted it at some moment between, so no
window of Cloudflare's clock can hold more than a window of this log.

Live requests may go whenever the window has room. Everything else goes at an even pace and leaves
a small reserve, so that a long catching-up never makes a live poll wait for the window to move.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import IntEnum
from math import inf

from forwarder.sources.cloudflare_access.quota import Limit, Standing

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
