"""The state behind the API.

Which requests came, and when: the proof that a client stayed within its quota.

The state behind the API: accounts, their streams and providers, tokens, quota, faults, time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial
from typing import Any

from forwarder.simulator.access import Doorkeeper, RateLimiter
from forwarder.simulator.company import Directory, found_company
from forwarder.simulator.faults import ACCESS_REQUESTS, ENDPOINTS, SCIM_UPDATES, FaultScript
from forwarder.simulator.feed import Clock, Feed, SystemClock, Traffic
from forwarder.simulator.settings import SimulatorSettings
from forwarder.simulator.traffic import TimedRow, login_rows, provisioning_rows

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Visit:
    """One request; `at` in epoch seconds of the simulator's clock, `status` 0 without an answer."""

    at: float
    endpoint: str
    path: str
    status: int


class VisitLog:
    """Counts requests, and keeps the times of all and the details of the last ten thousand."""

    def __init__(self) -> None:
        self.last: deque[Visit] = deque(maxlen=REMEMBERED)
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self._times: dict[str, list[float]] = {endpoint: [] for endpoint in ENDPOINTS}

    def note(self, at: float, endpoint: str, path: str, status: int) -> None:
        """Note one request that has been answered with `status`, or with nothing (0)."""
        self.last.append(Visit(at, endpoint, path, status))
        self.counts[endpoint] += 1
        self.statuses[status] += 1
        self._times.setdefault(endpoint, []).append(at)

    def busiest(self, window: float, endpoint: str | None = None) -> int:
        """Return the largest number of requests within any `window` seconds."""
        chosen = self._times.values() if endpoint is None else (self._times.get(endpoint, []),)
        return _busiest(sorted(at for times in chosen for at in times), window)


def _busiest(times: list[float], window: float) -> int:
    most = start = 0
    for end, at in enumerate(times):
        while times[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most


class Cloud:
    """All that the routes and the control requests look at and change."""

    def __init__(self, settings: SimulatorSettings, clock: Clock | None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock(settings.clock_offset)
        self.faults = FaultScript(*settings.faults, seed=settings.seed)
        self.limiter = RateLimiter(settings.policy)
        self.doorkeeper = Doorkeeper(settings.tokens, settings.accounts)
        self.visits = VisitLog()
        self.closing = asyncio.Event()
        self._directories: dict[str, Directory] = {}
        self._feeds: dict[tuple[str, str], Feed] = {}
        for account in settings.accounts:
            self._found(account)

    def advance(self) -> float:
        """Let everything happen that happens until now; return now in epoch seconds."""
        now = self.clock.now()
        for feed in self._feeds.values():
            feed.advance(now, self.faults)
        return now

    def feed(self, account: str, stream: str) -> Feed:
        """Return a stream of an account.

        Raises:
            KeyError: the simulator has no such account, or there is no such stream.

        """
        return self._feeds[account, stream]

    def feeds(self) -> tuple[Feed, ...]:
        """Return all streams of all accounts."""
        return tuple(self._feeds.values())

    def directory(self, account: str) -> Directory:
        """Return the identity providers of an account.

        Raises:
            KeyError: the simulator has no such account.

        """
        return self._directories[account]

    def _found(self, account: str) -> None:
        settings = self.settings
        company = found_company(settings.seed, account)
        directory = Directory(company.identity_providers)
        self._directories[account] = directory

        def logins(second: int) -> list[TimedRow]:
            return login_rows(company, settings.seed, account, second, settings.rate)

        def provisioning(second: int) -> list[TimedRow]:
            idps, rate = directory.provisioning(), settings.scim_rate
            return provisioning_rows(company, idps, settings.seed, account, second, rate)

        login = {"user_email": company.people[0].email, "action": "login", "allowed": True}
        update = {"idp_id": company.identity_providers[0].id, "resource_type": "USER"}
        open_feed = partial(self._open, account)
        open_feed(ACCESS_REQUESTS, logins, login)
        open_feed(SCIM_UPDATES, provisioning, update)

    def _open(self, account: str, stream: str, traffic: Traffic, template: dict[str, Any]) -> None:
        since = self.clock.now() - self.settings.history
        self._feeds[account, stream] = Feed(
            account, stream, traffic, template, retention=self.settings.retention, since=since
        )
