"""The last call before a drain: what is stored goes out, and nothing waits for long."""

import asyncio
from collections.abc import Sequence

from forwarder.core.contracts import ACCEPTED, StoredPage
from forwarder.core.errors import NeedsOperatorError
from forwarder.core.log import Progress
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.testing.fake_sinks import ScriptedSink, hang
from tests.delivery.rig import PATIENCE, Rig, limits


async def test_what_is_stored_goes_out_at_once_when_a_sink_finishes() -> None:
    rig = Rig(ScriptedSink(limits=limits(100, wait=60.0)), rows=100)
    run = asyncio.create_task(rig.consumer.run())
    await rig.clock.sleep(10.0)
    rig.queue.append(1)
    started = rig.clock.monotonic()
    await rig.consumer.flush(started + 3.0)
    finished = rig.clock.monotonic()
    await rig.consumer.drain(started + 25.0)
    await run

    assert rig.queue.progress() == Progress(101)
    assert finished < started + 3.0
    assert len(asyncio.all_tasks()) == 1


async def test_finishing_overlooks_nothing_that_a_read_under_way_has_missed() -> None:
    rig = Rig(rows=100)
    read, empty = rig.queue.read, asyncio.Event()

    async def slow(lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        found = await read(lane, offset, max_rows)
        if not found:
            empty.set()
            await rig.clock.sleep(0.5)
        return found

    rig.queue.read = slow  # type: ignore[method-assign]
    run = asyncio.create_task(rig.consumer.run())
    await empty.wait()
    rig.queue.append(1)
    await rig.consumer.flush(rig.clock.monotonic() + 3.0)
    await rig.consumer.drain(rig.clock.monotonic() + 25.0)
    await run

    assert rig.queue.progress() == Progress(101)


async def test_finishing_has_an_end() -> None:
    rig = Rig(ScriptedSink([ACCEPTED, hang], limits=limits(100)), rows=100_000)
    run = asyncio.create_task(rig.consumer.run())
    await rig.clock.sleep(1.0)
    started = rig.clock.monotonic()
    await rig.consumer.flush(started + 2.0)

    assert rig.clock.monotonic() == started + 2.0
    await rig.consumer.drain(started + 25.0)
    await run


async def test_a_sink_in_trouble_finishes_at_once() -> None:
    rig = Rig(ScriptedSink(opening=[NeedsOperatorError("no token")] * 99), rows=10)
    run = asyncio.create_task(rig.consumer.run())
    await rig.clock.sleep(100.0)
    started = rig.clock.monotonic()
    await rig.consumer.flush(started + 25.0)

    assert rig.clock.monotonic() == started
    await rig.consumer.drain(started + 25.0)
    await run


async def test_a_paused_sink_and_one_that_never_ran_finish_at_once() -> None:
    rig = Rig(rows=10, options=DeliveryOptions(paused=True))
    await rig.consumer.flush(rig.clock.monotonic() + 25.0)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(1.0)
        started = rig.clock.monotonic()
        await rig.consumer.flush(started + 25.0)

        assert rig.clock.monotonic() == started
