"""A consumer whose destination refuses some events, or all of them."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    Rejection,
    Rendered,
    StoredPage,
    WriteResult,
)
from forwarder.core.errors import BatchRefusedError, BatchTooLargeError, TransientError
from forwarder.core.log import DeadLetter, Progress
from forwarder.delivery.events import (
    BatchSettled,
    BatchSplit,
    EventsDeadLettered,
    EventsRefusedAsExpected,
    SinkHeld,
)
from forwarder.delivery.state import Phase
from forwarder.testing.fake_sinks import Answer, ScriptedSink
from forwarder.testing.memory_queue import MemoryQueue, render_plainly
from tests.delivery.rig import PATIENCE, Rig, limits


def rejecting(*offsets: int, reason: str = "no such field") -> Answer:
    async def answer(batch: Batch) -> WriteResult:
        bad = [event.offset for event in batch.events if event.offset in offsets]
        return WriteResult(rejected=[Rejection(offset, reason) for offset in bad])

    return answer


def refusing(*offsets: int) -> Answer:
    async def answer(batch: Batch) -> WriteResult:
        if any(event.offset in offsets for event in batch.events):
            raise BatchRefusedError("not valid")
        return ACCEPTED

    return answer


async def everything(batch: Batch) -> WriteResult:
    return WriteResult(rejected=[Rejection(event.offset, "no") for event in batch.events])


async def test_a_rejected_event_is_a_dead_letter_and_the_others_are_delivered() -> None:
    sink = ScriptedSink(otherwise=rejecting(7, 150), limits=limits(100))
    rig = await Rig(sink, rows=200).settle()

    assert [DeadLetter(7, "no such field"), DeadLetter(150, "no such field")] == [
        rig.queue.dead[offset] for offset in sorted(rig.queue.dead)
    ]
    assert sum(rig.sink.delivered.values()) == 198
    assert [one.reasons for one in rig.happened(EventsDeadLettered)] == 2 * [
        {("access_requests", "no such field"): 1}
    ]


async def test_a_dead_letter_is_stored_together_with_the_progress_that_passes_it() -> None:
    """MemoryQueue refuses dead letters that are not within the progress of the same call."""
    rig = Rig(ScriptedSink(otherwise=rejecting(7), limits=limits(10)), rows=100)
    rig.queue.acknowledge_errors = [OSError("full"), OSError("full")]
    await rig.settle()

    assert set(rig.queue.dead) == {7}


async def test_no_event_is_counted_as_delivered_that_was_not() -> None:
    sink = ScriptedSink([WriteResult([Rejection(1, "no")], frozenset({2, 3}))])
    rig = await Rig(sink, rows=10).settle()
    first, second = rig.happened(BatchSettled)

    assert (first.delivered, first.rejected, first.deferred) == (
        {"access_requests": 7},
        {"access_requests": 1},
        {"access_requests": 2},
    )
    assert (second.delivered, second.retried) == ({"access_requests": 2}, 2)
    assert sum(first.ages.counts) + sum(second.ages.counts) == 9


async def test_deferred_events_are_tried_again_alone() -> None:
    sink = ScriptedSink([WriteResult(deferred=frozenset({3, 50}))], limits=limits(100))
    rig = await Rig(sink, rows=300).settle()

    [lane] = rig.consumer.state().lanes
    assert not lane.due
    assert [3, 50] in rig.sink.writes
    assert rig.once_each


async def test_deferred_events_hold_up_nobody() -> None:
    async def answer(batch: Batch) -> WriteResult:
        return WriteResult(deferred=frozenset({5} & {event.offset for event in batch.events}))

    rig = Rig(ScriptedSink(otherwise=answer, limits=limits(100)), rows=5000)
    await rig.run_for(60.0)

    [lane] = rig.consumer.state().lanes
    assert (lane.prefix, lane.due) == (5, True)
    assert rig.queue.progress() == Progress(5, ((6, 5000),))
    assert rig.sink.writes.count([5]) < 60


async def test_events_deferred_by_many_batches_are_gathered() -> None:
    seen: set[int] = set()

    async def answer(batch: Batch) -> WriteResult:
        new = {event.offset for event in batch.events if event.offset % 10 == 0} - seen
        seen.update(new)
        return WriteResult(deferred=frozenset(new), retry_after=None)

    rig = Rig(ScriptedSink(otherwise=answer, limits=limits(10)), rows=1000)
    await rig.settle()

    assert rig.once_each
    assert len(rig.sink.writes) < 140


async def test_events_put_off_while_others_are_read_again_are_sent_too() -> None:
    rig = Rig()
    rig.queue.append(30, page_size=10)
    put_off: set[int] = set()

    async def answer(batch: Batch) -> WriteResult:
        offsets = {event.offset for event in batch.events}
        await rig.clock.sleep(5.0 if 25 in offsets else 1.0)
        new = {offset for offset in offsets if offset >= 10 and offset % 10 < 5} - put_off
        put_off.update(new)
        return WriteResult(deferred=frozenset(new))

    read = rig.queue.read

    async def slow(lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Read again so slowly that other events are put off, and come due, meanwhile."""
        if put_off and offset < 30:
            await rig.clock.sleep(20.0)
            rig.consumer.wake()
            await rig.clock.sleep(10.0)
        return await read(lane, offset, max_rows)

    rig.queue.read = slow  # type: ignore[method-assign]
    rig.sink = ScriptedSink(otherwise=answer, limits=limits(10))
    rig.consumer = rig.new_consumer()
    await rig.run_for(200.0)

    assert rig.sink.delivered == Counter(range(30))


async def test_a_poison_event_among_deferred_ones_is_found_too() -> None:
    first = True

    async def answer(batch: Batch) -> WriteResult:
        nonlocal first
        offsets = {event.offset for event in batch.events}
        if first:
            first = False
            return WriteResult(deferred=frozenset(offsets - {0}))
        if 50 in offsets:
            raise BatchRefusedError("not valid")
        return ACCEPTED

    rig = await Rig(ScriptedSink(otherwise=answer, release=True), rows=100).settle()

    assert set(rig.queue.dead) == {50}
    assert len(rig.sink.writes) < 20
    assert rig.clock.monotonic() < 2.0


async def test_a_destination_that_defers_everything_is_not_hammered() -> None:
    async def answer(batch: Batch) -> WriteResult:
        return WriteResult(deferred=frozenset(event.offset for event in batch.events))

    rig = Rig(ScriptedSink(otherwise=answer, limits=limits(100)), rows=10_000)
    await rig.run_for(900.0)

    assert len(rig.sink.writes) < 900
    assert len({offset for write in rig.sink.writes for offset in write}) <= 1400
    assert len(rig.queue.outstanding()) == 10_000
    assert rig.clock.looks < 60 * len(rig.sink.writes)


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("batch", [100, 1000, 10_000])
async def test_one_poison_event_among_ten_thousand(batch: int, *, release: bool) -> None:
    sink = ScriptedSink(otherwise=refusing(7777), limits=limits(batch), release=release)
    rig = await Rig(sink, rows=10_000).settle()

    assert rig.queue.dead == {7777: DeadLetter(7777, "not valid")}
    assert sum(rig.sink.delivered.values()) == 9_999
    assert max(rig.sink.delivered.values()) == 1
    assert len(rig.sink.writes) - 10_000 / batch <= 2 * math.log2(batch) + 2
    assert rig.sink.opens == 1


async def test_many_poison_events_cost_each_only_its_own_halvings() -> None:
    bad = (3, 4, 500, 999, 1000, 1700)
    rig = await Rig(ScriptedSink(otherwise=refusing(*bad), limits=limits(1000)), rows=2000).settle()

    assert set(rig.queue.dead) == set(bad)
    assert sum(rig.sink.delivered.values()) == 1994
    assert len(rig.happened(BatchSplit)) <= 11 * len(bad)


async def test_an_outage_in_the_middle_of_a_search_does_not_start_it_anew() -> None:
    rig = Rig(rows=1000)
    calls = 0

    async def answer(batch: Batch) -> WriteResult:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise ConnectionError
        if any(event.offset == 333 for event in batch.events):
            raise BatchRefusedError("not valid")
        return ACCEPTED

    rig.sink = ScriptedSink(otherwise=answer)
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert set(rig.queue.dead) == {333}
    assert calls <= 2 * (2 * 10 + 2)


async def test_a_batch_that_is_too_large_is_split_and_the_next_ones_are_smaller() -> None:
    async def answer(batch: Batch) -> WriteResult:
        if batch.size > 1000:
            raise BatchTooLargeError("takes 1000 bytes")
        return ACCEPTED

    rig = Rig(ScriptedSink(otherwise=answer, limits=limits(1000, size=20_000)), rows=10_000)
    await rig.settle()

    assert rig.once_each
    too_large = len(rig.happened(BatchSplit))
    assert too_large < 40 < len(rig.sink.writes) / 4


async def test_an_event_too_large_for_the_destination_is_dead_with_its_size() -> None:
    async def answer(batch: Batch) -> WriteResult:
        if batch.size > 8:
            raise BatchTooLargeError("takes 8 bytes")
        return ACCEPTED

    rig = await Rig(ScriptedSink(otherwise=answer), rows=101).settle()

    assert rig.queue.dead == {100: DeadLetter(100, "takes 8 bytes", 9)}


async def test_an_event_beyond_the_sinks_limit_is_dead_without_being_sent() -> None:
    rig = await Rig(ScriptedSink(limits=limits(30, event_bytes=8)), rows=110).settle()

    assert set(rig.queue.dead) == set(range(100, 110))
    assert {9} == {letter.size for letter in rig.queue.dead.values()}
    assert sorted(rig.sink.delivered) == list(range(100))


async def test_events_beyond_the_sinks_limit_stop_no_others_of_their_batch() -> None:
    def some_large(page: StoredPage) -> Rendered:
        whole = render_plainly(page)
        large = [e._replace(body=b"x" * 99) if e.offset % 7 == 0 else e for e in whole.events]
        return replace(whole, events=large)

    sink = ScriptedSink([TransientError("away")], limits=limits(10, event_bytes=50))
    rig = await Rig(sink, rows=40, render=some_large).settle()

    large = range(0, 40, 7)
    reason = "too large: the destination takes at most 50 bytes"
    assert rig.queue.dead == {offset: DeadLetter(offset, reason, 99) for offset in large}
    assert sorted(rig.sink.delivered) == sorted({*range(40)} - {*large})
    assert {*large}.isdisjoint(offset for write in rig.sink.writes for offset in write)


async def test_fifty_rejections_in_a_row_hold_the_sink_instead_of_the_backlog_dying() -> None:
    rig = Rig(ScriptedSink(otherwise=everything, limits=limits(10)), rows=10_000)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(3600.0)
        state = rig.consumer.state()

        assert len(rig.queue.dead) < 50
        assert state.phase is Phase.HELD
        assert "refuses one event after the other: no" in state.error
        assert state.hint
        rig.sink.otherwise = ACCEPTED
        await rig.queue.settled()

    assert len(rig.sink.delivered) + len(rig.queue.dead) == 10_000


async def test_a_batch_rejected_whole_dies_not_at_all_when_it_is_long_enough() -> None:
    rig = Rig(ScriptedSink(otherwise=everything), rows=10_000)
    await rig.run_for(3600.0)

    assert rig.queue.dead == {}
    assert len(rig.queue.outstanding()) == 10_000


async def test_refusals_of_whole_batches_trip_the_breaker_too() -> None:
    rig = Rig(ScriptedSink(otherwise=BatchRefusedError("not valid")), rows=10_000)
    await rig.run_for(3600.0)

    assert len(rig.queue.dead) < 50
    assert rig.consumer.state().phase is Phase.DRAINING or not rig.consumer.state().ready


async def test_bad_events_among_good_ones_never_trip_the_breaker() -> None:
    bad = frozenset(range(0, 2000, 2))
    rig = await Rig(ScriptedSink(otherwise=rejecting(*bad)), rows=2000).settle()

    assert set(rig.queue.dead) == bad


async def test_what_is_accepted_later_shows_that_a_long_row_of_refused_events_is_at_fault() -> None:
    bad = frozenset(range(1000))
    rig = await Rig(ScriptedSink(otherwise=rejecting(*bad)), rows=3000).settle()

    assert set(rig.queue.dead) == bad
    assert rig.sink.delivered.keys() == set(range(1000, 3000))


async def test_without_room_for_dead_letters_the_sink_is_held_until_there_is() -> None:
    bad = frozenset(range(0, 1000, 20))
    queue = MemoryQueue(room=(20, 1))
    sink = ScriptedSink(otherwise=rejecting(*bad), limits=limits(100))
    rig = Rig(sink, rows=1000, queue=queue)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(600.0)
        state = rig.consumer.state()

        assert len(queue.dead) <= 20
        assert state.phase is Phase.HELD
        assert "no room for more dead letters" in state.error
        queue.room = (1000, 1)
        await queue.settled()

    assert set(queue.dead) == bad
    assert rig.sink.delivered.keys() == set(range(1000)) - bad


def expecting(*offsets: int) -> Answer:
    async def answer(batch: Batch) -> WriteResult:
        old = [event.offset for event in batch.events if event.offset in offsets]
        return WriteResult([Rejection(offset, "too old", expected=True) for offset in old])

    return answer


async def test_expected_refusals_are_dead_letters_and_never_hold_the_sink() -> None:
    old = range(1000)
    rig = Rig(ScriptedSink(otherwise=expecting(*old), limits=limits(100)), rows=1500)
    await rig.settle()

    assert {DeadLetter(offset, "expected refusal: too old") for offset in old} == set(
        rig.queue.dead.values()
    )
    assert sorted(rig.sink.delivered) == [*range(1000, 1500)]
    assert (rig.happened(SinkHeld), rig.sink.opens) == ([], 1)
    assert rig.happened(EventsDeadLettered) == []
    reported = rig.happened(EventsRefusedAsExpected)
    assert 1000 == sum(sum(one.reasons.values()) for one in reported)


async def test_where_dead_letters_are_full_expected_refusals_leave_and_others_do_not() -> None:
    async def answer(batch: Batch) -> WriteResult:
        return WriteResult(
            [
                Rejection(event.offset, "no", expected=event.offset % 10 > 0)
                for event in batch.events
            ]
        )

    queue = MemoryQueue(room=(20, 1))
    rig = Rig(ScriptedSink(otherwise=answer, limits=limits(7)), rows=150, queue=queue)
    await rig.settle()

    assert {*range(0, 150, 10)} <= queue.dead.keys()
    assert (len(queue.dead), queue.made_room) == (20, 130)
    assert rig.happened(SinkHeld) == []


async def test_a_released_batch_is_read_again_when_it_must_be_sent_again() -> None:
    sink = ScriptedSink([ConnectionError("reset")], limits=limits(100), release=True)
    rig = await Rig(sink, rows=300).settle()

    assert rig.once_each
    assert rig.sink.writes[0] == rig.sink.writes[1]


@pytest.mark.parametrize("below", [50, 100])
async def test_rows_that_vanished_before_they_could_be_sent_again_are_done(below: int) -> None:
    rig = Rig(rows=300)

    async def drop(_: Batch) -> WriteResult:
        rig.queue.forget(below)
        raise ConnectionError("reset")

    rig.sink = ScriptedSink([drop], limits=limits(100))
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert set(range(below, 300)) == set(rig.sink.delivered)
    assert rig.queue.progress() == Progress(300)


async def test_an_offset_that_was_not_in_the_batch_is_no_ones_business() -> None:
    sink = ScriptedSink([WriteResult([Rejection(500, "no")], frozenset({600}))], limits=limits(10))
    rig = await Rig(sink, rows=1000).settle()

    assert rig.queue.dead == {}
    assert rig.once_each
