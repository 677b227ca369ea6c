"""The state behind the API: accounts, their streams and providers, tokens, quota, faults, time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forwarder.simulator.access import Authenticator, RateLimiter
from forwarder.simulator.analytics import Analytics, anonymous_rows
from forwarder.simulator.audit_log import Cursors, audit_rows, dated
from forwarder.simulator.company import Company, Directory, found_company
from forwarder.simulator.faults import (
    ACCESS_REQUESTS,
    ACCOUNT_AUDIT,
    ENDPOINTS,
    NON_IDENTITY_LOGINS,
    SCIM_UPDATES,
    FaultScript,
)
from forwarder.simulator.feed import Clock, Dated, Feed, SystemClock, Traffic, read_row
from forwarder.simulator.settings import SimulatorSettings, Token
from forwarder.simulator.temporary_access import Board
from forwarder.simulator.traffic import login_rows, provisioning_rows

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request; `at` in epoch seconds of the simulator's clock, `status` 0 without an answer."""

    at: float
    endpoint: str
    path: str
    status: int


@dataclass(slots=True)
class PushJob:
    """A job of Logpush as the API lists it; its owner is an account or a zone."""

    id: int
    dataset: str
    destination_conf: str
    output_options: dict[str, Any] | None = field(
        default_factory=lambda: {"field_names": [], "output_type": "ndjson"}
    )
    enabled: bool = True
    name: str | None = None
    kind: str = ""
    filter: str = ""
    logpull_options: str | None = None
    max_upload_bytes: int | None = None
    max_upload_records: int | None = None
    max_upload_interval_seconds: int | None = None
    last_complete: str | None = None
    last_error: str | None = None
    error_message: str | None = None

    def note(self, at: str, error: str | None) -> None:
        """Note an upload at a time in RFC 3339; a success makes the API forget an error."""
        self.last_error = at if error else None
        self.error_message = error
        self.last_complete = self.last_complete if error else at


class RequestLog:
    """Counts requests; keeps the times of all, and the details of the last ten thousand.

    This is how a test proves that a client stayed within its quota.
    """

    def __init__(self) -> None:
        self.last: deque[LoggedRequest] = deque(maxlen=REMEMBERED)
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self._times: dict[str, list[float]] = {endpoint: [] for endpoint in ENDPOINTS}

    def note(self, at: float, endpoint: str, path: str, status: int) -> None:
        """Note one request that was answered with `status`, or not at all (0)."""
        self.last.append(LoggedRequest(at, endpoint, path, status))
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
        # Both ends move forward only: linear, however many requests there were.
        while times[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most


class Cloud:
    """A simulated Cloudflare without its HTTP side; everything can be changed while it is used."""

    def __init__(
        self, settings: SimulatorSettings | None = None, *, clock: Clock | None = None
    ) -> None:
        self.settings = settings = settings or SimulatorSettings()
        self.clock = clock or SystemClock(settings.clock_offset)
        self.faults = FaultScript(*settings.faults, seed=settings.seed)
        """What goes wrong; `faults.add(Fault("html", status=502, times=3))`."""
        self.limiter = RateLimiter(settings.policy)
        self.query_limiter = RateLimiter(settings.query_policy)
        self.authenticator = Authenticator(settings.tokens, settings.accounts)
        self.requests = RequestLog()
        self.cursors = Cursors()
        self.closing = asyncio.Event()
        """Ends every delay and every answer that never comes."""
        self._directories: dict[str, Directory] = {}
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._boards: dict[str, Board] = {}
        self._analytics: dict[str, Analytics] = {}
        self._jobs: dict[str, list[PushJob]] = {}
        for account in settings.accounts:
            self._found(account)

    @property
    def times_throttled(self) -> int:
        """How often a client exceeded the quota."""
        return self.limiter.exceeded

    def advance(self) -> float:
        """Generate and reveal every row up to now. Returns now in epoch seconds."""
        now = self.clock.now()
        for feed in self._feeds.values():
            feed.advance(now, self.faults)
        for board in self._boards.values():
            board.advance(now)
        return now

    def feed(self, account: str, stream: str) -> Feed:
        """Return a stream of an account.

        Raises:
            KeyError: the simulator has no such account or stream.

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

    def board(self, account: str) -> Board:
        """Return the requests for temporary access of an account.

        Raises:
            KeyError: the simulator has no such account.

        """
        return self._boards[account]

    def analytics(self, account: str) -> Analytics:
        """Return the logins without identity of an account, as they are queried.

        Raises:
            KeyError: the simulator has no such account.

        """
        return self._analytics[account]

    def jobs(self, owner: str) -> list[PushJob]:
        """Return the jobs of an account or a zone, by its id."""
        return self._jobs.get(owner, [])

    def add_job(self, owner: str, **fields: Any) -> PushJob:
        """Add a job with the given fields of ``PushJob``, in addition to its id."""
        job = PushJob(id=sum(map(len, self._jobs.values())) + 1, **fields)
        self._jobs.setdefault(owner, []).append(job)
        return job

    def company(self, account: str) -> Company:
        """Return the company that owns an account."""
        return found_company(self.settings.seed, account)

    def add(
        self,
        account: str,
        stream: str,
        row: Mapping[str, Any] | bytes,
        visible_at: float | None = None,
    ) -> int:
        """Add one instance of a row and return its number; bytes are served verbatim.

        The row has the time that it states. It is visible at once, or from `visible_at` on (epoch
        seconds).
        """
        self.advance()
        return self.feed(account, stream).add(row, visible_at)

    def amend(self, account: str, stream: str, number: int, changes: Mapping[str, Any]) -> int:
        """Change an instance in all later answers, and return the number of its new version."""
        self.advance()
        return self.feed(account, stream).amend(number, changes)

    def shown(self, account: str, stream: str) -> list[dict[str, Any]]:
        """Return every row instance of every answer that was sent, as it was in that answer."""
        return [read_row(seen.body) for seen in self.feed(account, stream).oracle.sightings()]

    def expected(self, account: str, stream: str) -> list[dict[str, Any]]:
        """Return the same, but identical rows only as often as the fullest answer held them."""
        return [read_row(seen.body) for seen in self.feed(account, stream).oracle.expected()]

    def shown_count(self, account: str, stream: str) -> int:
        """Return how many row instances were shown."""
        return self.feed(account, stream).oracle.shown

    def admit(self, token: Token) -> None:
        """Accept a token from now on. Replaces a token with the same value."""
        self.authenticator.admit(token)

    def revoke(self, value: str) -> None:
        """Stop accepting a token."""
        self.authenticator.revoke(value)

    def _found(self, account: str) -> None:
        settings = self.settings
        company = found_company(settings.seed, account)
        directory = Directory(company.identity_providers)
        self._directories[account] = directory

        since = self.clock.now() - settings.history
        self._boards[account] = Board(company, settings.seed, account, settings.jit_rate, since)

        # Providers are read for each second: they come and go while the simulator runs.
        self._open(
            account,
            ACCESS_REQUESTS,
            lambda second: login_rows(company, settings.seed, account, second, settings.rate),
            {"user_email": company.people[0].email, "action": "login", "allowed": True},
        )
        self._open(
            account,
            SCIM_UPDATES,
            lambda second: provisioning_rows(
                company, directory.provisioning(), settings.seed, account, second,
                settings.scim_rate,
            ),
            {"idp_id": company.identity_providers[0].id, "resource_type": "USER"},
        )  # fmt: skip
        self._open(
            account,
            ACCOUNT_AUDIT,
            lambda second: audit_rows(company, settings.seed, account, second, settings.audit_rate),
            {"action": {"type": "update", "result": "success"}, "resource": {"product": "access"}},
            dated,
        )
        self._open(
            account,
            NON_IDENTITY_LOGINS,
            lambda second: anonymous_rows(
                company, settings.seed, account, second, settings.anonymous_rate
            ),
            {"identityProvider": "nonidentity", "isSuccessfulLogin": 0},
        )
        self._analytics[account] = Analytics(self.feed(account, NON_IDENTITY_LOGINS))

    def _open(
        self,
        account: str,
        stream: str,
        traffic: Traffic,
        template: dict[str, Any],
        dated: Dated | None = None,
    ) -> None:
        # The history is generated at the first `advance`, second by second like live rows.
        since = self.clock.now() - self.settings.history
        self._feeds[account, stream] = Feed(
            account,
            stream,
            traffic,
            template,
            retention=self.settings.retention,
            since=since,
            dated=dated,
        )
