"""A log that grows while it is read is no gap, at any rate that a well-behaved API can have."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from forwarder.core.contracts import StreamKey
from forwarder.core.telemetry import ignore
from forwarder.ingest.poller import Poller
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.sources.cloudflare_access.account import AccessRequestsConfig, AccountConfig
from forwarder.sources.cloudflare_access.answers import Endpoint, Response
from forwarder.sources.cloudflare_access.logs import AccessRequests
from forwarder.transport.settings import Secret
from tests.ingest.inline_log import InlineJournal
from tests.ingest.scripted_cloudflare import SECOND_US, Cloudflare, ScriptedApi, created_at
from tests.ingest.virtual_time import VirtualClock

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
KEY = StreamKey(ACCOUNT, "access_requests")
START_US = 1_790_000_000 * SECOND_US + 100_000
"""Polls are not at whole seconds: some see only the beginning of a second."""
REQUEST_S = 0.03


class SlowApi(ScriptedApi):
    """Each request takes a while, so that the log grows between two of them."""

    async def _send(
        self, url: str, endpoint: Endpoint, waited: float, largest: int, body: bytes | None
    ) -> Response:
        await self._clock.sleep(REQUEST_S)
        return await super()._send(url, endpoint, waited, largest, body)


class Tenant:
    """Quiet at first; then ``rate`` rows a second, each shown ``late_s`` after its time."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(START_US)
        self.cloudflare = Cloudflare(self.clock)
        config = AccountConfig(account_id=ACCOUNT, api_token=Secret("t"), rate_limit=None)
        api = SlowApi(self.cloudflare, config, self.clock)
        self.journal = InlineJournal(folder, KEY, self.clock)
        self.context = StreamContext(
            key=KEY,
            account="acme",
            source=AccessRequests(api, config, AccessRequestsConfig()),
            log=self.journal.log,
            gate=Gate(2**40, _nothing, self.clock, ignore),
            clock=self.clock,
            rng=Random(1),
            emit=ignore,
            beat=lambda: None,
            retention=86_400.0,
        )
        self.poller = Poller(self.context, PollOptions(1.0, 600.0, 60.0, (300.0,)))

    def burst(self, rate: float, seconds: float, late_s: tuple[float, float], begin: float) -> int:
        rng = Random(7)
        count = round(rate * seconds)
        for number in range(count):
            ahead_us = round((begin + number / rate) * SECOND_US)
            late_us = round(rng.uniform(*late_s) * SECOND_US)
            time_us = START_US + ahead_us
            self.cloudflare.add(time_us, created_at(time_us, 6), late_us=ahead_us + late_us)
        return count

    async def live_on(self, seconds: float) -> None:
        task = asyncio.create_task(self.poller.run())
        await self.clock.advance(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def delivered(self) -> int:
        pages = [page for page in self.journal.drain(0) if page.stream == KEY.stream]
        return len({bytes(id_) for page in pages for id_ in _split(page.ids)})


def _split(ids: bytes) -> Iterator[bytes]:
    return (ids[start : start + 16] for start in range(0, len(ids), 16))


async def _nothing() -> int:
    return 0


@pytest.mark.parametrize("late_s", [(2.5, 2.5), (0.2, 5.0)], ids=["alike", "mixed"])
@pytest.mark.parametrize(
    ("rate", "seconds", "begin"),
    [(0.5, 20, 5.0), (30, 6, 5.0), (30, 6, 5.95), (7, 6, 5.95), (400, 3, 5.5), (2500, 1.5, 5.5)],
)
async def test_a_quiet_tenant_that_bursts_has_no_gap_and_loses_nothing(
    tmp_path: Path, rate: float, seconds: float, begin: float, late_s: tuple[float, float]
) -> None:
    tenant = Tenant(tmp_path)
    count = tenant.burst(rate, seconds, late_s, begin)

    await tenant.live_on(begin + seconds + 15)

    try:
        assert [] == tenant.journal.gaps()
        assert count == tenant.delivered()
    finally:
        tenant.journal.close()
