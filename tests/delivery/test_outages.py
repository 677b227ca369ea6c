"""A consumer whose destination, or journal, is away for a while."""

import asyncio

import pytest

from forwarder.core.contracts import ACCEPTED, Batch, WriteResult
from forwarder.core.errors import DamagedError, NeedsOperatorError, StateError, TransientError
from forwarder.core.log import Progress
from forwarder.delivery.events import (
    OpenFailed,
    QueueFailed,
    SinkHeld,
    SinkOpened,
    SinkRecovered,
    SinkThrottled,
    SinkWaiting,
    WriteFailed,
)
from forwarder.delivery.state import Phase
from forwarder.testing.fake_sinks import ScriptedSink, hang
from tests.delivery.rig import PATIENCE, Rig, limits

AWAY = TransientError("connection refused", hint="is it up?")
LOCKED = NeedsOperatorError("the token is not known", hint="look at the token")


async def test_after_an_outage_the_same_events_are_sent_in_the_same_order() -> None:
    rig = Rig(ScriptedSink([AWAY, AWAY, ACCEPTED], limits=limits(100)), rows=300)
    await rig.settle()

    assert [0, 0, 0] == [write[0] for write in rig.sink.writes[:3]]
    assert rig.once_each
    assert rig.sink.opens == 3


async def test_the_sink_is_opened_again_once_all_writes_have_ended() -> None:
    """ScriptedSink fails when it is opened while a write is under way."""
    rig = Rig(rows=1000)

    async def answer(batch: Batch) -> WriteResult:
        await rig.clock.sleep(5.0)
        if batch.events[0].offset == 300 and rig.sink.opens == 1:
            raise AWAY
        await rig.clock.sleep(5.0)
        return ACCEPTED

    rig.sink = ScriptedSink(otherwise=answer, limits=limits(100))
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert rig.once_each
    assert rig.sink.opens == 2
    assert rig.happened(OpenFailed) == []


async def test_writes_that_fail_together_are_one_attempt() -> None:
    rig = Rig(rows=5000)

    async def answer(_: Batch) -> WriteResult:
        await rig.clock.sleep(1.0)
        if rig.sink.most_at_once < 8:
            return ACCEPTED
        raise AWAY

    rig.sink = ScriptedSink(otherwise=answer, limits=limits(100, at_once=8))
    rig.consumer = rig.new_consumer()
    async with asyncio.timeout(PATIENCE), rig.running():
        while not rig.happened(SinkWaiting):
            await rig.clock.sleep(0.01)

        assert len(rig.happened(WriteFailed)) == 8
        assert rig.consumer.state().attempts == 1


async def test_writes_that_succeed_after_another_failed_are_acknowledged() -> None:
    rig = Rig(rows=400)

    async def answer(batch: Batch) -> WriteResult:
        if batch.events[0].offset == 100:
            raise AWAY
        await rig.clock.sleep(0.5)
        return ACCEPTED

    rig.sink = ScriptedSink(otherwise=answer, limits=limits(100, at_once=2))
    rig.consumer = rig.new_consumer()
    await rig.run_for(3.0)

    assert rig.sink.delivered[250] == 1
    assert 250 not in rig.queue.outstanding()


async def test_a_write_without_an_answer_is_given_up_and_sent_again() -> None:
    rig = Rig(ScriptedSink([hang], limits=limits(100, timeout=20.0)), rows=100)
    await rig.settle()

    assert rig.once_each
    assert 20.0 <= rig.clock.monotonic() < 23.0
    (failure,) = rig.happened(WriteFailed)
    assert (failure.kind, failure.error) == (
        "timeout",
        "a write to siem did not answer within 20 s",
    )


async def test_a_sink_that_shrugs_off_being_cancelled_cannot_stop_the_others_events() -> None:
    rig = Rig(rows=100)

    async def stubborn(_: Batch) -> WriteResult:
        for _attempt in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
        raise asyncio.CancelledError

    rig.sink = ScriptedSink([stubborn], limits=limits(100, timeout=20.0))
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert rig.once_each
    assert rig.sink.opens == 2


async def test_a_write_that_never_ends_although_it_is_cancelled_is_seen() -> None:
    async def deaf(_: Batch) -> WriteResult:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if rig.clock.monotonic() > 300.0:
                    raise

    rig = Rig(ScriptedSink([deaf], limits=limits(100, timeout=20.0)), rows=100)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(30.0)
        before = rig.consumer.state().phase
        await rig.clock.sleep(200.0)
        state = rig.consumer.state()
        await rig.queue.settled()

    assert before is Phase.RUNNING
    assert state.phase is Phase.WAITING
    assert "does not end although it was cancelled" in state.error
    assert rig.once_each


async def test_a_journal_that_is_not_the_one_that_was_read_is_read_by_a_new_consumer() -> None:
    rig = Rig(rows=100)
    rig.queue.acknowledge_errors = [StateError("the prefix is beyond what is stored")]
    with pytest.raises(StateError):
        await asyncio.wait_for(rig.consumer.run(), PATIENCE)
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert rig.queue.progress() == Progress(100)


async def test_a_damaged_journal_holds_the_sink_and_ends_nothing() -> None:
    rig = Rig(rows=100)
    rig.queue.acknowledge_errors = [DamagedError("a page does not match its checksum")]
    await rig.settle()

    assert rig.queue.progress() == Progress(100)
    assert len(rig.happened(SinkHeld)) == 1


async def test_a_library_that_cancels_too_much_loses_nothing() -> None:
    async def careless(_: Batch) -> WriteResult:
        raise asyncio.CancelledError

    rig = await Rig(ScriptedSink([careless]), rows=10).settle()

    assert rig.once_each


@pytest.mark.parametrize("answer", [KeyError("token=hunter2"), None, "accepted"])
async def test_a_sinks_own_mistake_is_an_outage_and_its_words_are_not_repeated(
    answer: object,
) -> None:
    async def mistaken(_: Batch) -> WriteResult:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    rig = Rig(ScriptedSink([mistaken]), rows=10)
    await rig.settle()

    assert rig.once_each
    (failure,) = rig.happened(WriteFailed)
    assert "hunter2" not in failure.error
    assert "Error at " in failure.error


async def test_opening_is_tried_again_and_has_a_time_out() -> None:
    rig = Rig(ScriptedSink(opening=[AWAY, AWAY, None]), rows=10)
    await rig.settle()

    assert rig.once_each
    assert [1, 2] == [one.attempts for one in rig.happened(OpenFailed)]


async def test_nothing_is_written_before_the_sink_is_open() -> None:
    rig = Rig(ScriptedSink(opening=[AWAY] * 1000), rows=10)
    await rig.run_for(600.0)

    assert rig.sink.writes == []


async def test_the_wait_grows_although_opening_succeeds_each_time() -> None:
    rig = Rig(ScriptedSink(otherwise=AWAY), rows=10)
    await rig.run_for(3600.0)

    assert rig.consumer.state().attempts == len(rig.sink.writes)
    assert 100 < len(rig.sink.writes) < 500


async def test_an_outage_of_an_hour_is_waited_for_without_spinning() -> None:
    rig = Rig(ScriptedSink(otherwise=AWAY, limits=limits(100)), rows=5000)
    await rig.run_for(3600.0)

    assert rig.clock.looks < 50 * len(rig.sink.writes)


async def test_retry_after_is_honoured() -> None:
    busy = TransientError("too many requests", retry_after=100.0)
    rig = Rig(ScriptedSink([busy, ACCEPTED]), rows=10)
    await rig.settle()

    assert 100.0 <= rig.clock.monotonic() <= 102.0
    assert "throttled" == rig.happened(WriteFailed)[0].kind
    assert len(rig.happened(SinkThrottled)) == 1


async def test_a_result_may_ask_to_ease_off() -> None:
    easy = WriteResult(retry_after=100.0)
    rig = Rig(ScriptedSink([easy], limits=limits(100)), rows=200)
    await rig.settle()

    assert 100.0 <= rig.clock.monotonic() <= 102.0
    assert rig.sink.opens == 1
    assert rig.once_each


async def test_an_event_that_waits_for_a_long_pause_is_due() -> None:
    """So that the state becomes degraded, although nothing has failed."""
    easy = WriteResult(retry_after=3000.0)
    rig = Rig(ScriptedSink([easy], limits=limits(100)), rows=300)
    await rig.run_for(1000.0)

    [lane] = rig.consumer.state().lanes
    assert (rig.consumer.state().phase, lane.prefix, lane.due) == (Phase.RUNNING, 100, True)


async def test_slow_down_halves_the_window() -> None:
    rig = Rig(rows=4000)

    async def answer(batch: Batch) -> WriteResult:
        await rig.clock.sleep(1.0)
        return WriteResult(slow_down=batch.events[0].offset == 2000)

    rig.sink = ScriptedSink(otherwise=answer, limits=limits(100, at_once=8))
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert [4] == [one.window for one in rig.happened(SinkThrottled)]
    assert rig.once_each


async def test_a_fault_of_the_operator_holds_the_sink_with_a_hint_and_drops_nothing() -> None:
    rig = Rig(ScriptedSink(otherwise=LOCKED), rows=100)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(600.0)
        state = rig.consumer.state()

        assert (state.phase, state.error, state.hint) == (
            Phase.HELD,
            "the token is not known",
            "look at the token",
        )
        assert not state.ready
        assert 5 < len(rig.sink.writes) < 40
        rig.sink.otherwise = ACCEPTED
        await rig.queue.settled()
        await rig.clock.sleep(0.001)

    assert rig.once_each
    assert [1, 1] == [len(rig.happened(SinkHeld)), len(rig.happened(SinkRecovered))]


async def test_a_destination_that_refuses_every_write_is_not_reported_as_opened() -> None:
    """It lets everybody in at each attempt; that it can be written to is said when it is true."""
    rig = Rig(ScriptedSink(otherwise=LOCKED), rows=100)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(600.0)
        at_the_start = len(rig.happened(SinkOpened))
        rig.sink.otherwise = ACCEPTED
        await rig.queue.settled()
        await rig.clock.sleep(0.001)

    assert rig.sink.opens > 5
    assert [1, 2] == [at_the_start, len(rig.happened(SinkOpened))]


async def test_a_held_sink_tries_at_once_when_it_is_woken() -> None:
    rig = Rig(ScriptedSink([LOCKED] * 100), rows=100)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(400.0)
        rig.sink.answers.clear()
        before = rig.clock.monotonic()
        rig.consumer.wake()
        await rig.queue.settled()

    assert rig.clock.monotonic() - before < 1.0


async def test_while_it_is_not_proven_to_work_again_one_write_at_a_time_is_made() -> None:
    rig = Rig(rows=20_000)
    down = True

    async def answer(_: Batch) -> WriteResult:
        await rig.clock.sleep(1.0)
        if down:
            raise AWAY
        return ACCEPTED

    rig.sink = ScriptedSink(otherwise=answer, limits=limits(100, at_once=16))
    rig.consumer = rig.new_consumer()
    async with asyncio.timeout(PATIENCE), rig.running():
        down = False
        await rig.clock.sleep(5.5)
        assert rig.sink.most_at_once == 16
        down = True
        while rig.sink.under_way:
            await rig.clock.sleep(0.001)
        rig.sink.most_at_once = 0
        await rig.clock.sleep(60.0)
        assert rig.sink.most_at_once == 1
        down = False
        await rig.queue.settled()

    assert rig.once_each


async def test_a_journal_that_cannot_be_read_is_read_later() -> None:
    rig = Rig(rows=100)
    rig.queue.read_errors = [OSError("secret"), NeedsOperatorError("damaged")]
    await rig.settle()

    assert rig.once_each
    assert ["read", "read"] == [one.doing for one in rig.happened(QueueFailed)]
    assert "secret" not in str(rig.happenings)


async def test_while_nothing_can_be_acknowledged_nothing_more_is_written() -> None:
    rig = Rig(ScriptedSink(limits=limits(10)), rows=1000)
    rig.queue.acknowledge_errors = [OSError("full") for _ in range(5)]
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(0.5)
        written = len(rig.sink.writes)
        state = rig.consumer.state()

        assert written <= 4
        assert state.phase is Phase.WAITING
        assert "OSError" in state.error
        await rig.queue.settled()

    assert rig.once_each


async def test_waiting_and_recovery_are_told_once_each() -> None:
    rig = Rig(ScriptedSink([AWAY] * 7), rows=100)
    await rig.settle()

    assert len(rig.happened(SinkWaiting)) == 1
    (recovered,) = rig.happened(SinkRecovered)
    assert 0 < recovered.seconds <= rig.clock.monotonic()
