"""Nobody fetches what there is no room for."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.telemetry import TelemetryEvent
from forwarder.ingest.events import GateClosed, GateOpened
from forwarder.ingest.rounds import Gate, is_closed
from tests.ingest.virtual_time import VirtualClock

LIMIT = 1000


class Fill:
    """A journal whose fill a test sets, with a gate before it."""

    def __init__(self, undelivered: int) -> None:
        self.undelivered = undelivered
        self.looks = 0
        self.beats = 0
        self.reported: list[TelemetryEvent] = []
        self.clock = VirtualClock(0)
        self.gate = Gate(LIMIT, self._measure, self.clock, self.reported.append)

    async def _measure(self) -> int:
        self.looks += 1
        return self.undelivered

    def pass_through(self, *, backfill: bool = False) -> asyncio.Task[None]:
        return asyncio.create_task(self.gate.passage(backfill=backfill, beat=self._beat))

    def _beat(self) -> None:
        self.beats += 1


@given(st.lists(st.integers(0, 1200)))
def test_it_shuts_at_95_percent_and_opens_below_80(fills: list[int]) -> None:
    closed = False
    for fill in fills:
        before, closed = closed, is_closed(fill, LIMIT, closed=closed)

        assert closed or fill < 950
        assert not closed or fill >= 800
        assert closed == before or not 800 <= fill < 950


async def test_with_room_nobody_waits() -> None:
    fill = Fill(949)

    await fill.pass_through()

    assert fill.reported == []


async def test_whoever_comes_to_a_closed_gate_waits_until_it_opens() -> None:
    fill = Fill(950)
    fetch = fill.pass_through()
    await fill.clock.advance(60)
    fill.undelivered = 800
    await fill.clock.advance(60)
    assert not fetch.done()

    fill.undelivered = 799
    await fill.clock.advance(1)

    assert fetch.done()
    assert fill.reported == [
        GateClosed(undelivered_bytes=950, limit_bytes=LIMIT),
        GateOpened(undelivered_bytes=799, limit_bytes=LIMIT),
    ]


async def test_waiting_does_not_look_like_a_stuck_loop() -> None:
    fill = Fill(950)
    fetch = fill.pass_through()
    await fill.clock.advance(60)

    assert fill.beats >= 60
    fetch.cancel()


async def test_a_backfill_waits_at_half() -> None:
    fill = Fill(500)
    backfill, live = fill.pass_through(backfill=True), fill.pass_through()
    await fill.clock.advance(10)
    assert (backfill.done(), live.done()) == (False, True)

    fill.undelivered = 499
    await fill.clock.advance(1)

    assert backfill.done()


async def test_with_much_room_it_looks_twice_a_second_at_most() -> None:
    fill = Fill(100)
    for _ in range(100):
        await fill.pass_through()

    assert fill.looks == 1


async def test_near_the_limit_it_looks_every_time() -> None:
    """A page may fill what is left."""
    fill = Fill(500)
    for _ in range(100):
        await fill.pass_through()

    assert fill.looks == 100
