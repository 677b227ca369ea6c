"""Nobody fetches what there is no room for."""

import asyncio
from random import Random
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import LIVE, Page, StreamKey, Window
from forwarder.core.errors import TransientError
from forwarder.core.log import ReaderState
from forwarder.core.source_contract import Purpose
from forwarder.core.telemetry import TelemetryEvent
from forwarder.ingest.events import FetchFailed, GateClosed, GateOpened
from forwarder.ingest.rounds import Gate, Reading, Retrier, Rounds, StreamContext, is_closed
from tests.ingest.virtual_time import VirtualClock

LIMIT = 1000


class Fill:
    """A journal whose fill a test sets, with a gate before it."""

    def __init__(self, undelivered: int) -> None:
        self.undelivered = undelivered
        self.away = 0
        self.looks = 0
        self.beats = 0
        self.reported: list[TelemetryEvent] = []
        self.clock = VirtualClock(0)
        self.gate = Gate(LIMIT, self._measure, self.clock, self.reported.append)

    async def _measure(self) -> int:
        self.looks += 1
        if self.looks <= self.away:
            raise TransientError("the database is away")
        return self.undelivered

    def pass_through(self, *, backfill: bool = False) -> asyncio.Task[None]:
        return asyncio.create_task(self.gate.passage(backfill=backfill, beat=self.beat))

    def beat(self) -> None:
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


class Asked:
    """A source that counts requests and never answers."""

    def __init__(self) -> None:
        self.requests = 0

    async def fetch(self, *_: object, **__: object) -> Page:
        self.requests += 1
        return await asyncio.Future()


async def test_a_reader_waits_for_a_journal_that_cannot_say_how_full_it_is() -> None:
    fill, source, reported = Fill(0), Asked(), list[TelemetryEvent]()
    fill.away = 3
    nothing = cast("Any", None)
    context = StreamContext(
        StreamKey("a" * 32, "access_requests"), "acme", cast("Any", source), nothing, fill.gate,
        fill.clock, Random(1), reported.append, fill.beat, 86_400.0,
    )  # fmt: skip
    rounds = Rounds(context, Retrier(context))
    state = ReaderState(0, Window(0, 60_000_000))
    reading = asyncio.create_task(rounds.read(Reading(LIVE, Purpose.LIVE), state))
    await fill.clock.advance(60)

    assert [one.attempt for one in reported if isinstance(one, FetchFailed)] == [1, 2, 3]
    assert source.requests == 1
    reading.cancel()
