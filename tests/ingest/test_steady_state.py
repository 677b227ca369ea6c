"""How many requests a quiet hour costs, over real sockets against the simulator."""

import asyncio
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from forwarder.core.contracts import StreamKey
from forwarder.core.journal import Keeping
from forwarder.core.source_contract import SourceContext
from forwarder.core.telemetry import TelemetryEvent, ignore
from forwarder.core.timing import SystemClock
from forwarder.ingest.events import RoundEnded
from forwarder.ingest.poller import Poller
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.journal.sqlite import SqliteJournal
from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    IDENTITY_PROVIDERS,
    SCIM_UPDATES,
    Simulator,
    SimulatorSettings,
)
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.cloudflare_access.account import AccountConfig
from forwarder.transport.settings import Secret

_ROUNDS = 3


async def _nothing_undelivered() -> int:
    return 0


@pytest.mark.parametrize("stream", [ACCESS_REQUESTS, SCIM_UPDATES])
@pytest.mark.parametrize("rate", [0.0, 10.0])
async def test_a_poll_takes_at_most_two_requests(tmp_path: Path, stream: str, rate: float) -> None:
    settings = SimulatorSettings(rate=rate, scim_rate=rate, history=300)
    async with Simulator(settings) as simulator:
        counts = await polled(tmp_path, simulator, stream)

        assert _ROUNDS <= len(counts)
        assert max(counts) <= 2
        assert simulator.requests.counts[IDENTITY_PROVIDERS] <= 2


async def test_sixty_rows_a_second_take_less_than_a_quarter_of_the_budget(tmp_path: Path) -> None:
    """In 5 minutes are 30 polls; 80 % of 1200 requests are the budget."""
    async with Simulator(SimulatorSettings(rate=60.0, history=300)) as simulator:
        counts = await polled(tmp_path, simulator, ACCESS_REQUESTS)

        assert 30 * max(counts) < 0.8 * 1200 / 4


async def polled(folder: Path, simulator: Simulator, stream: str) -> list[int]:
    """Let a poller go; return how many requests each round took, but the first (a catch-up)."""
    clock, enough = SystemClock(), asyncio.Event()
    totals: list[int] = []

    def emit(event: TelemetryEvent) -> None:
        if isinstance(event, RoundEnded):
            totals.append(simulator.requests.counts[stream])
            if len(totals) > _ROUNDS:
                enough.set()

    config = AccountConfig(
        account_id=DEFAULT_ACCOUNT, api_token=Secret(DEFAULT_TOKEN), api_url=simulator.url
    )
    plugin = CloudflareAccess(config, SourceContext(clock, CloudflareAccess.share(clock, None)))
    journal = await SqliteJournal.open(folder, Keeping(2**30, 0), clock=clock, emit=ignore)
    key = StreamKey(DEFAULT_ACCOUNT, stream)
    around = StreamContext(
        key=key,
        account="acme",
        source=plugin.streams()[stream].source,
        log=journal.stream_log(key),
        gate=Gate(2**40, _nothing_undelivered, clock, ignore),
        clock=clock,
        rng=Random(1),
        emit=emit,
        beat=lambda: None,
        retention=86_400.0,
    )
    polling = asyncio.create_task(Poller(around, PollOptions(1.0, 200.0, 60.0, ())).run())
    try:
        await asyncio.wait_for(enough.wait(), 60)
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        await plugin.aclose()
        await journal.aclose()
    return [after - before for before, after in pairwise(totals)]
