"""How many requests a stream costs: two a poll, two a slice that is read again, lists aside."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from forwarder.core.contracts import StreamKey
from forwarder.core.source_contract import Source
from forwarder.core.telemetry import TelemetryEvent
from forwarder.ingest.events import PageStored, RoundEnded, RoundStarted
from forwarder.ingest.poller import Poller
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.sources.cloudflare_access.account import (
    AccessRequestsConfig,
    AccountConfig,
    ScimUpdatesConfig,
)
from forwarder.sources.cloudflare_access.logs import AccessRequests
from forwarder.sources.cloudflare_access.scim.updates import ScimUpdates
from forwarder.transport.settings import Secret
from tests.ingest.inline_log import InlineJournal
from tests.ingest.scripted_cloudflare import SECOND_US, Cloudflare, ScriptedApi, created_at
from tests.ingest.virtual_time import VirtualClock

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
START_US = 1_790_000_000 * SECOND_US
HOUR_S = 3600.0


class Tenant:
    """A stream with its default settings, and somebody who logs in now and then."""

    def __init__(self, folder: Path, stream: str) -> None:
        self.clock = VirtualClock(START_US)
        self.cloudflare = Cloudflare(self.clock)
        self.cloudflare.time_key = "created_at" if stream == "access_requests" else "logged_at"
        self.cloudflare.providers = {"okta": True, "entra": True}
        self.counts = Counter[str]()
        self.journal = InlineJournal(folder, StreamKey(ACCOUNT, stream), self.clock)
        self._rng = Random(7)
        config = AccountConfig(account_id=ACCOUNT, api_token=Secret("t"), rate_limit=None)
        api = ScriptedApi(self.cloudflare, config, self.clock)
        logins, scim = AccessRequestsConfig(), ScimUpdatesConfig()
        source: Source = AccessRequests(api, config, logins)
        settings: Any = logins
        if stream == "scim_updates":
            source, settings = ScimUpdates(api, config, scim, self.clock), scim
        self._poller = Poller(
            StreamContext(
                key=StreamKey(ACCOUNT, stream),
                account="acme",
                source=source,
                log=self.journal.log,
                gate=Gate(2**40, _nothing, self.clock, self._note),
                clock=self.clock,
                rng=Random(1),
                emit=self._note,
                beat=lambda: None,
                retention=config.retention,
            ),
            PollOptions(settings.poll_interval, settings.start_from, settings.overlap),
        )
        self._task: asyncio.Task[None] | None = None

    async def live_on(self, seconds: float) -> None:
        """Let time pass; about every two minutes there are rows, some in one second, some late."""
        if self._task is None:
            self._task = asyncio.create_task(self._poller.run())
        passed = 0.0
        while passed < seconds:
            self.log_in()
            await self.clock.advance(step := self._rng.uniform(1, 240))
            passed += step
        if self._task.done():
            self._task.result()

    def log_in(self, seconds_ago: float = 0.0) -> None:
        time_us = self.clock.true_us - round(seconds_ago * SECOND_US)
        late_us = self._rng.choice([0, 0, 20, 400]) * SECOND_US
        for number in range(self._rng.choice([1, 1, 2, 9])):
            self.cloudflare.add(
                time_us, created_at(time_us, 3), late_us=late_us, app=number, idp_id="okta"
            )

    def rows_of_age(self, seconds: float) -> int:
        old_us = self.clock.true_us - round(seconds * SECOND_US)
        return sum(row.place_us <= old_us for row in self.cloudflare.rows)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.journal.close()

    def _note(self, event: TelemetryEvent) -> None:
        match event:
            case RoundStarted():
                self.counts["polls"] += 1
            case RoundEnded(reader=reader) if reader.startswith("reconcile:"):
                self.counts["slices"] += 1
            case PageStored(rows=rows, new=new):
                self.counts.update(rows=rows, new=new)


async def _nothing() -> int:
    return 0


@pytest.fixture(params=["access_requests", "scim_updates"])
async def tenant(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Tenant]:
    tenant = Tenant(tmp_path, request.param)
    for hours in range(1, 24):
        tenant.log_in(seconds_ago=hours * HOUR_S)
    yield tenant
    await tenant.aclose()


@pytest.mark.parametrize("hours", [2, pytest.param(24, marks=pytest.mark.proof)])
async def test_a_day_takes_two_requests_a_poll_and_two_a_slice(tenant: Tenant, hours: int) -> None:
    await tenant.live_on(hours * HOUR_S)

    counts, cloudflare = tenant.counts, tenant.cloudflare
    assert counts["new"] >= tenant.rows_of_age(1200) > 50
    assert hours * 12 <= counts["slices"] <= (hours + 1) * (24 + 12 + 12)
    assert len(cloudflare.requests) <= 2 * counts["polls"] + 2 * counts["slices"]
    assert cloudflare.listings <= hours * 12 * 2 + 2


async def test_a_tenant_without_a_past_costs_little_more(tmp_path: Path) -> None:
    """Until an answer has had two rows a single one may have been cut; pages are turned then."""
    tenant = Tenant(tmp_path, "access_requests")
    try:
        await tenant.live_on(2 * HOUR_S)
    finally:
        await tenant.aclose()

    counts = tenant.counts
    bound = 2 * counts["polls"] + 2 * counts["slices"]
    assert len(tenant.cloudflare.requests) <= bound
