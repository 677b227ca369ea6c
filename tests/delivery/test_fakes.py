"""The fakes that ship keep their word."""

import asyncio
from random import Random

import pytest

from forwarder.core.contracts import ACCEPTED, LIVE, Rejection, WriteResult
from forwarder.core.errors import TransientError
from forwarder.core.log import DeadLetter, Progress
from forwarder.testing.clock import FakeClock
from forwarder.testing.fake_sinks import WEIGHTS, RandomFaults, ScriptedSink, hang, make_batch
from forwarder.testing.memory_queue import MemoryQueue


async def test_hours_pass_at_once_when_everybody_sleeps() -> None:
    clock = FakeClock()
    before_us = clock.now_us()
    await clock.sleep(7200.0)

    assert clock.monotonic() == 7200.0
    assert clock.now_us() - before_us == 7200 * 10**6


async def test_sleepers_wake_in_the_order_of_their_moments() -> None:
    clock, woken = FakeClock(), list[float]()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(clock.monotonic())

    await asyncio.gather(*(sleep(seconds) for seconds in (3.0, 1.0, 2.0, 1.0)))

    assert woken == [1.0, 1.0, 2.0, 3.0]


async def test_time_stands_still_while_there_is_work() -> None:
    clock = FakeClock()
    sleeper = asyncio.create_task(clock.sleep(1.0))
    for _ in range(40):
        await asyncio.sleep(0)

    assert clock.monotonic() == 0.0
    await sleeper


async def test_a_cancelled_sleep_moves_no_time() -> None:
    clock = FakeClock()
    sleeper = asyncio.create_task(clock.sleep(500.0))
    await asyncio.sleep(0)
    sleeper.cancel()
    await clock.sleep(2.0)

    assert (clock.monotonic(), clock.sleepers) == (2.0, 0)


async def test_time_can_be_moved_by_hand() -> None:
    clock = FakeClock(patience=None)
    sleeper = asyncio.create_task(clock.sleep(10.0))
    await asyncio.sleep(0)
    clock.advance(9.0)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(1.0)
    await sleeper


async def test_a_queue_gives_tails_of_pages() -> None:
    queue = MemoryQueue()
    queue.append(10, page_size=4)
    pages = await queue.read(LIVE, 6, 3)

    assert [(6, 2), (8, 2)] == [(page.first_offset, page.count) for page in pages]
    assert [{"n": 6}, {"n": 7}] == pages[0].rows
    assert [] == await queue.read(LIVE, 10, 3)


async def test_waiting_ends_with_rows_or_with_another_set_of_lanes() -> None:
    queue = MemoryQueue()
    rows = asyncio.create_task(queue.wait(LIVE, 0))
    later = asyncio.create_task(queue.wait(LIVE, 100))
    await asyncio.sleep(0)
    queue.append(1)
    await asyncio.wait_for(rows, 60)

    assert not later.done()
    queue.open_lane("backfill:1", 1)
    await asyncio.wait_for(later, 60)


@pytest.mark.parametrize(
    ("progress", "dead"),
    [
        (Progress(4), ()),
        (Progress(5, ((5, 7),)), ()),
        (Progress(5, ((9, 10), (7, 8))), ()),
        (Progress(5), ()),
        (Progress(6, ((7, 9),)), (DeadLetter(9, "no"),)),
    ],
)
async def test_a_queue_refuses_progress_that_makes_no_sense(
    progress: Progress, dead: tuple[DeadLetter, ...]
) -> None:
    queue = MemoryQueue()
    await queue.acknowledge(LIVE, Progress(5, ((7, 9),)))

    with pytest.raises(AssertionError):
        await queue.acknowledge(LIVE, progress, dead)


async def test_a_scripted_sink_answers_in_order_and_counts_what_it_took() -> None:
    sink = ScriptedSink(
        [TransientError("away"), WriteResult([Rejection(0, "no")], frozenset({1}))], release=True
    )
    with pytest.raises(TransientError):
        await sink.write(make_batch(3))
    batch = make_batch(3)
    await sink.write(batch)

    assert dict(sink.delivered) == {2: 1}
    assert batch.events == ()
    assert ACCEPTED == await sink.write(make_batch(1))


async def test_a_hanging_answer_ends_only_by_being_cancelled() -> None:
    sink = ScriptedSink([hang])
    write = asyncio.create_task(sink.write(make_batch(1)))
    await asyncio.sleep(0.01)

    assert not write.done()
    write.cancel()
    await asyncio.wait([write])
    assert (sink.under_way, dict(sink.delivered)) == (0, {})


@pytest.mark.parametrize("kind", WEIGHTS)
async def test_each_kind_of_fault_can_be_had_alone(kind: str) -> None:
    clock = FakeClock()
    faults = RandomFaults(Random(1), clock, {kind: 1.0})
    sink = ScriptedSink(otherwise=faults)
    write = asyncio.create_task(sink.write(make_batch(3)))
    await asyncio.wait([write], timeout=0.05)
    write.cancel()
    await asyncio.wait([write])

    assert dict(faults.given) == {kind: 1}
    good = kind in {"success", "slow_down", "deferred"}
    assert good == (not write.cancelled() and write.exception() is None)
