"""Draining, cancelling, pausing, and what can be seen from outside."""

import asyncio
from collections.abc import Sequence

from forwarder.core.contracts import ACCEPTED, Batch, WriteResult
from forwarder.core.errors import NeedsOperatorError
from forwarder.core.log import DeadLetter, Progress
from forwarder.delivery.events import PhaseChanged, SinkDrained
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.delivery.state import Phase
from forwarder.testing.fake_sinks import ScriptedSink, hang
from tests.delivery.rig import PATIENCE, Rig, limits


def _others() -> int:
    return len(asyncio.all_tasks()) - 1


def _slow_rig(seconds: float, rows: int = 1000) -> Rig:
    rig = Rig(rows=rows)

    async def answer(_: Batch) -> WriteResult:
        await rig.clock.sleep(seconds)
        return ACCEPTED

    rig.sink = ScriptedSink(otherwise=answer, limits=limits(100, at_once=2))
    rig.consumer = rig.new_consumer()
    return rig


async def test_a_drain_lets_writes_end_and_acknowledges_them() -> None:
    rig = _slow_rig(3.0)
    run = asyncio.create_task(rig.consumer.run())
    await rig.clock.sleep(4.0)
    await rig.consumer.drain(rig.clock.monotonic() + 25.0)
    await run

    assert rig.queue.progress() == Progress(300)
    assert sum(rig.sink.delivered.values()) == 300
    assert rig.sink.closes == 1
    assert [0] == [one.abandoned for one in rig.happened(SinkDrained)]
    assert _others() == 0


async def test_a_drain_waits_for_what_is_being_acknowledged() -> None:
    rig = Rig(rows=100)
    store = rig.queue.acknowledge

    async def slow(lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()) -> None:
        await rig.clock.sleep(2.0)
        await store(lane, progress, dead)

    rig.queue.acknowledge = slow  # type: ignore[method-assign]
    run = asyncio.create_task(rig.consumer.run())
    await rig.clock.sleep(0.5)
    assert rig.queue.progress() == Progress(0)
    await rig.consumer.drain(rig.clock.monotonic() + 25.0)
    await run

    assert rig.queue.progress() == Progress(100)
    assert _others() == 0


async def test_what_does_not_end_in_time_stays_unacknowledged() -> None:
    rig = Rig(ScriptedSink([ACCEPTED, hang], limits=limits(100)), rows=1000)
    run = asyncio.create_task(rig.consumer.run())
    await rig.clock.sleep(4.0)
    started = rig.clock.monotonic()
    await rig.consumer.drain(started + 25.0)
    await run

    assert 100 in rig.queue.outstanding()
    assert rig.queue.progress().prefix == 100
    assert rig.clock.monotonic() - started <= 25.0
    assert [1] == [one.abandoned for one in rig.happened(SinkDrained)]
    assert _others() == 0


async def test_a_drain_interrupts_waiting_for_a_destination_that_is_away() -> None:
    rig = Rig(ScriptedSink(opening=[NeedsOperatorError("no token")] * 99), rows=10)
    run = asyncio.create_task(rig.consumer.run())
    await rig.clock.sleep(100.0)
    started = rig.clock.monotonic()
    await rig.consumer.drain(started + 25.0)
    await run

    assert rig.clock.monotonic() == started
    assert rig.sink.closes == 1


async def test_a_sink_that_hangs_when_closed_is_left_behind() -> None:
    class Clinging(ScriptedSink):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    rig = Rig(Clinging(), rows=10)
    run = asyncio.create_task(rig.consumer.run())
    await rig.clock.sleep(4.0)
    started = rig.clock.monotonic()
    await rig.consumer.drain(started + 25.0)
    await run

    assert rig.clock.monotonic() - started <= 5.0
    await asyncio.sleep(0)
    assert _others() == 0


async def test_a_consumer_that_never_ran_can_be_drained() -> None:
    rig = Rig()
    await rig.consumer.drain(rig.clock.monotonic() + 25.0)

    assert (rig.sink.opens, rig.sink.closes) == (0, 1)


async def test_cancelling_leaves_no_task_and_closes_the_sink() -> None:
    rig = _slow_rig(3.0)
    await rig.run_for(4.0)

    assert rig.sink.closes == 1
    assert _others() == 0


async def test_a_paused_sink_is_not_even_opened() -> None:
    rig = Rig(rows=10, options=DeliveryOptions(paused=True))
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(60.0)

        assert rig.consumer.state().phase is Phase.PAUSED
        assert rig.consumer.state().oldest_unacknowledged_us is not None
        assert (rig.sink.opens, rig.sink.writes) == (0, [])
        rig.consumer.resume()
        await rig.queue.settled()

    assert rig.once_each


async def test_pausing_at_run_time_lets_writes_settle_and_starts_none() -> None:
    rig = _slow_rig(1.0)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(2.5)
        rig.consumer.pause()
        started = len(rig.sink.writes)
        await rig.clock.sleep(60.0)

        assert len(rig.sink.writes) == started
        assert rig.sink.under_way == 0
        rig.consumer.resume()
        await rig.queue.settled()

    assert rig.once_each


async def test_the_phases_are_told_in_order() -> None:
    rig = Rig(ScriptedSink(opening=[NeedsOperatorError("no token"), None]), rows=10)
    run = asyncio.create_task(rig.consumer.run())
    await rig.queue.settled()
    await rig.consumer.drain(rig.clock.monotonic() + 25.0)
    await run

    assert ["held", "running", "draining"] == [str(one.after) for one in rig.happened(PhaseChanged)]


async def test_the_oldest_unacknowledged_event_is_known() -> None:
    rig = Rig(ScriptedSink(otherwise=hang, limits=limits(100)))
    rig.queue.append(100, seen_us=1_000)
    rig.queue.append(100, seen_us=2_000)
    async with asyncio.timeout(PATIENCE), rig.running():
        assert rig.consumer.state().oldest_unacknowledged_us is None
        for _ in range(5):
            await rig.clock.sleep(50.0)
            assert rig.consumer.state().oldest_unacknowledged_us == 1_000
        rig.sink.otherwise = ACCEPTED
        await rig.queue.settled()
        state = rig.consumer.state()

    assert state.oldest_unacknowledged_us is None
    assert state.last_success_us is not None
    assert state.phase is Phase.RUNNING


async def test_the_number_of_tasks_stays_flat() -> None:
    rig = Rig(ScriptedSink(limits=limits(10)), rows=10_000)
    most = 0

    async def answer(_: Batch) -> WriteResult:
        nonlocal most
        most = max(most, _others())
        return ACCEPTED

    rig.sink.otherwise = answer
    await rig.settle()

    assert most <= 4 + 6


async def test_a_mistake_in_rendering_is_trouble_and_not_the_end() -> None:
    rig = Rig(rows=10)
    broken = True

    def keep(_: int) -> bool:
        if broken:
            raise ZeroDivisionError
        return True

    rig.keep = keep
    rig.consumer = rig.new_consumer()
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(60.0)
        assert "ZeroDivisionError" in rig.consumer.state().error
        broken = False
        await rig.queue.settled()

    assert rig.once_each
