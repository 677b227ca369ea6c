"""An account in steady state, hours of it in seconds: the real pollers, budget and journal.

Time is virtual, and the API answers out of arithmetic: rows come at a fixed rate, for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from forwarder.core.contracts import StreamKey
from forwarder.core.source_contract import Source
from forwarder.core.telemetry import TelemetryEvent, ignore
from forwarder.core.timing import format_seconds, parse_us
from forwarder.ingest.events import RoundEnded, RoundStarted
from forwarder.ingest.poller import Poller
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.sources.cloudflare_access.account import (
    AccessRequestsConfig,
    AccountConfig,
    RateLimit,
    ScimUpdatesConfig,
)
from forwarder.sources.cloudflare_access.answers import Endpoint, Response
from forwarder.sources.cloudflare_access.api import Api
from forwarder.sources.cloudflare_access.logs import AccessRequests
from forwarder.sources.cloudflare_access.rate_limit import RateLimiter
from forwarder.sources.cloudflare_access.scim.providers import chunked
from forwarder.sources.cloudflare_access.scim.updates import ScimUpdates
from forwarder.transport.settings import Secret
from tests.end_to_end.processes import ACCOUNT
from tests.ingest.inline_log import InlineJournal
from tests.ingest.virtual_time import VirtualClock

HOUR = 3600
_SECOND_US = 1_000_000
_START_US = 1_790_000_000 * _SECOND_US
_SETTLING = 900


@dataclass(frozen=True, slots=True)
class Rates:
    """Logins and provisioning updates a second, and how many identity providers there are."""

    logins: float
    providers: int
    updates: float = 0.05


@dataclass(slots=True)
class Counts:
    """What an hour took; moments are seconds."""

    chunks: int
    moments: list[tuple[float, str]] = field(default_factory=list)
    polls: Counter[str] = field(default_factory=Counter)
    slices: Counter[str] = field(default_factory=Counter)
    lists: int = 0

    @property
    def requests(self) -> Counter[str]:
        """Return the requests by endpoint."""
        return Counter(name for _, name in self.moments)

    def most_in(self, seconds: float) -> int:
        """Return the most requests in any window of so many seconds."""
        moments, first, most = [moment for moment, _ in self.moments], 0, 0
        for last, moment in enumerate(moments):
            while moments[first] <= moment - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most


class SteadyApi(Api):
    """The real client, with arithmetic where the network would be."""

    def __init__(self, rates: Rates, config: AccountConfig, clock: VirtualClock) -> None:
        super().__init__(config, RateLimiter(clock, [RateLimit()]), clock)
        self._rates = rates
        self._now = clock
        self.counts = Counts(0)

    def happened(self, event: TelemetryEvent) -> None:
        """Count polls and slices where the requests are counted now."""
        match event:
            case RoundStarted(stream=stream):
                self.counts.polls[stream] += 1
            case RoundEnded(stream=stream, reader=reader) if reader.startswith("reconcile"):
                self.counts.slices[stream] += 1

    async def _send(
        self, url: str, endpoint: Endpoint, waited: float, largest: int, body: bytes | None
    ) -> Response:
        del waited, largest, body
        self._now.activity += 1
        query = parse_qs(urlsplit(url).query)
        self.counts.moments.append((self._now.monotonic(), endpoint.name))
        self.counts.lists += endpoint.name == "identity_providers" and query["page"] == ["1"]
        body = orjson.dumps({"success": True, "result": self._result(endpoint.name, query)})
        date = formatdate(self._now.true_us // _SECOND_US, usegmt=True)
        return Response(200, {"date": date}, body)

    def _result(self, endpoint: str, query: Mapping[str, Sequence[str]]) -> Any:
        if endpoint == "access_requests":
            return self._page(query, self._rates.logins, _login)
        if endpoint == "scim_updates":
            chunk = set(query["idp_id"])
            made = self._page(query, self._rates.updates, self._update)
            return [row for row in made if row["idp_id"] in chunk]
        if endpoint == "identity_providers":
            first = (int(query["page"][0]) - 1) * 100
            return [
                {"id": _provider(number), "type": "okta", "scim_config": {"enabled": True}}
                for number in range(first, min(first + 100, self._rates.providers))
            ]
        return {"status": "active"}

    def _page(
        self,
        query: Mapping[str, Sequence[str]],
        rate: float,
        make: Callable[[int, str], dict[str, Any]],
    ) -> list[dict[str, Any]]:
        since_us, until_us = parse_us(query["since"][0]) or 0, parse_us(query["until"][0]) or 0
        size = int(query["per_page"][0])
        first = -int(-since_us * rate // _SECOND_US) + (int(query["page"][0]) - 1) * size
        last = int(min(until_us, self._now.true_us) * rate // _SECOND_US)
        numbers = range(first, min(first + size, last))
        return [make(n, format_seconds(round(n / rate * _SECOND_US))) for n in numbers]

    def _update(self, number: int, moment: str) -> dict[str, Any]:
        idp = _provider(number % self._rates.providers)
        return {"logged_at": moment, "idp_id": idp, "cf_resource_id": f"{number:x}"}


def _login(number: int, moment: str) -> dict[str, Any]:
    return {"created_at": moment, "ray_id": f"{number:016x}", "action": "login"}


def _provider(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


async def steady(folder: Path, rates: Rates) -> Counts:
    """Run both streams with default settings; count one hour after a quarter to settle."""
    clock = VirtualClock(_START_US)
    logins, scim = AccessRequestsConfig(), ScimUpdatesConfig()
    config = AccountConfig(account_id=ACCOUNT, api_token=Secret("t"))
    api = SteadyApi(rates, config, clock)
    updates = ScimUpdates(api, config, scim, clock)
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(_tail(folder, "access_requests", logins,
                                    AccessRequests(api, config, logins), api, clock)),
            tasks.create_task(_tail(folder, "scim_updates", scim, updates, api, clock)),
        ]  # fmt: skip
        await clock.advance(_SETTLING)
        api.counts = Counts(len(chunked([_provider(n) for n in range(rates.providers)])))
        await clock.advance(HOUR)
        for task in running:
            task.cancel()
    return api.counts


async def _tail(
    folder: Path,
    stream: str,
    config: AccessRequestsConfig | ScimUpdatesConfig,
    source: Source,
    api: SteadyApi,
    clock: VirtualClock,
) -> None:
    """Poll one stream into a journal of its own; only its start is nearer than by default."""
    (folder / stream).mkdir()
    journal = InlineJournal(folder / stream, StreamKey(ACCOUNT, stream), clock)
    around = StreamContext(
        key=StreamKey(ACCOUNT, stream),
        account="acme",
        source=source,
        log=journal.log,
        gate=Gate(2**40, _nothing_undelivered, clock, ignore),
        clock=clock,
        rng=Random(1),
        emit=api.happened,
        beat=lambda: None,
        retention=86_400.0,
    )
    options = PollOptions(config.poll_interval, 60.0, config.overlap, config.reconcile)
    try:
        await Poller(around, options).run()
    finally:
        journal.close()


async def _nothing_undelivered() -> int:
    return 0
