"""A simulator without traffic of its own, whose clock stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from forwarder.simulator import ManualClock, Simulator, SimulatorSettings
from tests.simulator.reader import Reader

NOON = 1_790_000_000.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
async def simulator(clock: ManualClock) -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(rate=0, scim_rate=0)
    async with Simulator(settings, clock=clock) as started:
        yield started


@pytest.fixture
def reader(simulator: Simulator) -> Reader:
    return Reader(simulator.url)
