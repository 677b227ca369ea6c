"""A simulator without traffic of its own, whose clock stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    ManualClock,
    Simulator,
    SimulatorSettings,
)
from tests.simulator.reader import Answer, Reader

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


@pytest.fixture
def rows(simulator: Simulator) -> None:
    """Nine rows, one a second from the first second of a minute, each named by its second."""
    for number in range(1, 10):
        row = {"created_at": second(number), "n": number}
        simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row)


def second(number: int, fraction: str = "") -> str:
    return f"2026-09-21T14:13:0{number}{fraction}Z"


def numbers(answer: Answer) -> list[int]:
    return [row["n"] for row in answer.rows]
