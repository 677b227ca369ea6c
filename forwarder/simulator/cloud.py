"""The state behind the API: accounts, their streams and providers, tokens, quota, faults, time."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from forwarder.simulator.company import found_company
from forwarder.simulator.directory import Directory
from forwarder.simulator.doorkeeper import Doorkeeper
from forwarder.simulator.faults import FaultScript
from forwarder.simulator.feed import Clock, Feed, SystemClock, Traffic
from forwarder.simulator.limits import RateLimiter
from forwarder.simulator.logins import TimedRow, login_rows
from forwarder.simulator.names import ACCESS_REQUESTS, SCIM_UPDATES
from forwarder.simulator.provisioning import provisioning_rows
from forwarder.simulator.settings import SimulatorSettings
from forwarder.simulator.visits import VisitLog


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
