"""A consumer whose destination works."""

import asyncio
from collections.abc import Sequence

import pytest

from forwarder.core.contracts import ACCEPTED, Batch, WriteResult
from forwarder.core.errors import TransientError
from forwarder.core.log import DeadLetter, Progress
from forwarder.delivery.events import (
    BatchSettled,
    EventsFiltered,
    LaneFinished,
    SinkOpened,
)
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.testing.clock import FakeClock
from forwarder.testing.fake_sinks import ScriptedSink
from tests.delivery.rig import PATIENCE, Rig, limits


def _slow(clock: FakeClock, seconds: float) -> ScriptedSink:
    async def answer(_: Batch) -> WriteResult:
        await clock.sleep(seconds)
        return ACCEPTED

    return ScriptedSink(otherwise=answer)


async def test_every_event_is_delivered_once_and_acknowledged() -> None:
    rig = await Rig(ScriptedSink(limits=limits(300)), rows=2500).settle()

    assert rig.once_each
    assert rig.queue.progress() == Progress(2500)


async def test_batches_are_cut_by_events() -> None:
    rig = await Rig(ScriptedSink(limits=limits(300)), rows=900).settle()

    assert rig.sizes == [300, 300, 300]


async def test_batches_are_cut_by_bytes() -> None:
    rig = await Rig(ScriptedSink(limits=limits(size=80)), rows=100).settle()

    assert set(rig.sizes[1:-1]) == {80 // len(b'{"n":10}')}
    assert rig.once_each


async def test_what_was_set_goes_before_what_the_sink_wants() -> None:
    options = DeliveryOptions(max_events=7)
    rig = await Rig(ScriptedSink(limits=limits(300)), rows=70, options=options).settle()

    assert rig.sizes == [7] * 10


async def test_a_partial_batch_waits_for_more_events_only_so_long() -> None:
    rig = Rig(ScriptedSink(limits=limits(300, wait=5.0)), rows=10)
    await rig.settle()

    assert rig.sizes == [10]
    assert 5.0 <= rig.clock.monotonic() < 5.5


async def test_rows_that_come_meanwhile_join_a_partial_batch() -> None:
    rig = Rig(ScriptedSink(limits=limits(300, wait=5.0)), rows=10)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(2.0)
        rig.queue.append(20)
        await rig.queue.settled()

    assert rig.sizes == [30]


async def test_as_many_writes_run_at_once_as_the_sink_allows() -> None:
    rig = Rig(rows=3000)
    rig.sink = _slow(rig.clock, 1.0)
    rig.sink.limits = limits(100, at_once=6)
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert rig.sink.most_at_once == 6
    assert rig.sizes == [100] * 30
    assert rig.clock.monotonic() < 10.0


async def test_the_number_of_writes_at_once_doubles_with_each_round() -> None:
    rig = Rig(rows=6300)
    rig.sink = _slow(rig.clock, 10.0)
    rig.sink.limits = limits(100, at_once=64)
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert rig.sink.most_at_once == 32
    assert rig.clock.monotonic() < 61.0


async def test_ranges_above_the_prefix_are_stored_too() -> None:
    rig = Rig(rows=600)
    first = asyncio.Event()

    async def answer(batch: Batch) -> WriteResult:
        if batch.events[0].offset == 200:
            await first.wait()
        return ACCEPTED

    rig.sink = ScriptedSink(otherwise=answer, limits=limits(100))
    rig.consumer = rig.new_consumer()
    await rig.run_for(30.0)

    assert rig.queue.progress() == Progress(200, ((300, 600),))


async def test_a_restart_sends_only_what_was_not_acknowledged() -> None:
    rig = Rig(ScriptedSink(limits=limits(100)), rows=600)
    await rig.queue.acknowledge("live", Progress(200, ((300, 450), (500, 520))))
    rig.consumer = rig.new_consumer()
    await rig.settle()

    expected = [*range(200, 300), *range(450, 500), *range(520, 600)]
    assert expected == sorted(rig.sink.delivered.elements())


async def test_after_a_restart_a_failed_write_brings_back_only_its_own_events() -> None:
    rig = Rig(ScriptedSink([TransientError("away")]), rows=100)
    await rig.queue.acknowledge("live", Progress(0, ((40, 60),)))
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert [*range(40), *range(60, 100)] == sorted(rig.sink.delivered.elements())


async def test_filtered_rows_are_done_without_being_sent() -> None:
    rig = Rig(rows=3000, keep=lambda offset: offset % 1000 == 1)
    await rig.settle()

    assert sorted(rig.sink.delivered) == [1, 1001, 2001]
    assert 2997 == sum(one.count for one in rig.happened(EventsFiltered))


async def test_a_sink_that_wants_nothing_keeps_no_row_in_the_journal() -> None:
    rig = await Rig(rows=3000, keep=lambda _: False).settle()

    assert rig.sink.writes == []
    assert rig.queue.progress() == Progress(3000)


async def test_offsets_may_jump() -> None:
    rig = Rig(ScriptedSink(limits=limits(10)))
    for count in (3, 17, 1):
        rig.queue.skip(5)
        rig.queue.append(count)
    await rig.settle()

    assert sum(rig.sink.delivered.values()) == 21
    assert rig.queue.progress() == Progress(rig.queue.next_offset)


async def test_live_goes_before_all_other_lanes() -> None:
    rig = Rig(ScriptedSink(limits=limits(100, at_once=1)))
    rig.queue.open_lane("backfill:1", 0)
    old = rig.queue.append(500, lane="backfill:1")
    new = rig.queue.append(500)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.queue.settled("backfill:1")

    assert [*new, *old] == [offset for write in rig.sink.writes for offset in write]


async def test_live_rows_overtake_a_lane_that_is_under_way() -> None:
    rig = Rig()
    rig.sink = _slow(rig.clock, 1.0)
    rig.sink.limits = limits(100, at_once=1)
    rig.consumer = rig.new_consumer()
    rig.queue.open_lane("backfill:1", 0)
    rig.queue.append(1000, lane="backfill:1")
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(3.5)
        new = rig.queue.append(100)
        await rig.queue.settled("backfill:1")

    position = next(i for i, write in enumerate(rig.sink.writes) if write[0] == new[0])
    assert position == 4


async def test_a_lane_with_an_end_ends_there() -> None:
    rig = Rig(rows=500)
    rig.queue.replay("replay:1", 100, 250)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.queue.settled()
        await rig.queue.settled("replay:1")
        await rig.clock.sleep(1.0)

    assert rig.queue.progress("replay:1") == Progress(250)
    assert [1, 2, 1] == [rig.sink.delivered[offset] for offset in (99, 249, 250)]
    assert ["replay:1"] == [one.lane for one in rig.happened(LaneFinished)]


async def test_a_lane_may_end_where_no_row_is() -> None:
    rig = Rig(rows=100)
    rig.queue.replay("replay:1", 50, 180)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(2.0)

    assert rig.queue.progress("replay:1") == Progress(180)


async def test_a_lane_that_is_added_and_ended_later_is_noticed() -> None:
    rig = Rig(rows=10)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.queue.settled()
        rig.queue.open_lane("backfill:1", rig.queue.next_offset)
        rows = rig.queue.append(50, lane="backfill:1")
        await rig.queue.settled("backfill:1")
        rig.queue.end_lane("backfill:1", rows.stop + 7)
        await rig.clock.sleep(2.0)

    assert rig.queue.progress("backfill:1") == Progress(rows.stop + 7)
    assert len(rig.happened(LaneFinished)) == 1


async def test_a_lane_that_is_cancelled_is_forgotten() -> None:
    rig = Rig(rows=10)
    rig.sink = _slow(rig.clock, 1.0)
    rig.consumer = rig.new_consumer()
    rig.queue.open_lane("backfill:1", 10)
    rig.queue.append(50_000, lane="backfill:1")
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(5.5)
        rig.queue.remove_lane("backfill:1")
        rig.queue.append(10)
        await rig.queue.settled()

        assert ["live"] == [lane.name for lane in rig.consumer.state().lanes]
        assert rig.consumer.state().error == ""


async def test_a_cancelled_lane_settles_what_is_in_flight_and_starts_nothing_new() -> None:
    rig = Rig()
    rig.sink = _slow(rig.clock, 10.0)
    rig.sink.limits = limits(100, at_once=1)
    rig.consumer = rig.new_consumer()
    rig.queue.open_lane("backfill:1", 0)
    rig.queue.append(1000, lane="backfill:1")
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(15.0)
        rig.queue.remove_lane("backfill:1")
        busy = []
        for _ in range(30):
            busy.append(rig.consumer.is_writing("backfill:1"))
            await rig.clock.sleep(1.0)

    assert busy == sorted(busy, reverse=True)
    assert (busy[0], busy[-1]) == (True, False)
    assert rig.sizes == [100, 100]
    assert rig.queue.progress("backfill:1") == Progress(200)


async def test_what_a_cancelled_lane_had_in_flight_is_not_sent_again() -> None:
    rig = Rig()

    async def answer(batch: Batch) -> WriteResult:
        await rig.clock.sleep(10.0)
        if batch.lane == "live":
            return ACCEPTED
        raise TransientError("away")

    rig.sink = ScriptedSink(otherwise=answer)
    rig.consumer = rig.new_consumer()
    rig.queue.open_lane("backfill:1", 0)
    rig.queue.append(10, lane="backfill:1")
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(5.0)
        rig.queue.remove_lane("backfill:1")
        rows = rig.queue.append(10)
        await rig.queue.settled()

        assert not rig.consumer.is_writing("backfill:1")
    assert rig.sink.writes == [[*range(10)], [*rows]]


async def test_a_batch_knows_its_lane() -> None:
    lanes: dict[int, str] = {}

    async def answer(batch: Batch) -> WriteResult:
        lanes.update({event.offset: batch.lane for event in batch.events})
        return ACCEPTED

    rig = Rig(ScriptedSink(otherwise=answer), rows=5)
    rig.queue.open_lane("backfill:1", 5)
    rig.queue.append(5, lane="backfill:1")
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.queue.settled()
        await rig.queue.settled("backfill:1")

    assert lanes == {**dict.fromkeys(range(5), "live"), **dict.fromkeys(range(5, 10), "backfill:1")}


async def test_acknowledging_never_holds_up_the_writing() -> None:
    rig = Rig(ScriptedSink(limits=limits(100)), rows=2000)
    stored, release = rig.queue.acknowledge, asyncio.Event()

    async def slow(lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()) -> None:
        await release.wait()
        await stored(lane, progress, dead)

    rig.queue.acknowledge = slow  # type: ignore[method-assign]
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(10.0)
        assert rig.once_each
        release.set()
        await rig.queue.settled()

    assert rig.queue.acknowledgements == 2


async def test_a_settled_batch_is_reported_with_its_figures() -> None:
    rig = Rig(ScriptedSink(limits=limits(100)), rows=100)
    await rig.settle()
    (batch,) = rig.happened(BatchSettled)

    assert batch.sink == "siem"
    assert (batch.events, batch.delivered) == (100, {"access_requests": 100})
    assert (batch.rejected, batch.deferred, batch.retried) == ({}, {}, 0)
    assert sum(batch.ages.counts) == sum(batch.seen_ages.counts) == 100
    assert len(rig.happened(SinkOpened)) == 1


@pytest.mark.parametrize("pages", [1, 1000])
async def test_the_size_of_pages_does_not_matter(pages: int) -> None:
    rig = Rig(ScriptedSink(limits=limits(300)))
    rig.queue.append(1000, page_size=1000 // pages)
    rig.rows = 1000
    await rig.settle()

    assert rig.once_each
    assert rig.queue.reads < 20
