"""A row that cannot be rendered is a dead letter; it stops no other row."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from forwarder.core.contracts import ACCEPTED, LIVE, Batch, Record, StreamKey, WriteResult
from forwarder.core.errors import BatchRefusedError, BatchTooLargeError, TransientError
from forwarder.core.identity import Identifier
from forwarder.core.journal import Keeping
from forwarder.core.log import Addition, Progress, ReaderState
from forwarder.core.telemetry import TelemetryEvent, ignore
from forwarder.core.timing import SystemClock
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.events import BatchSettled, EventsDeadLettered, SinkThrottled
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.delivery.state import Phase
from forwarder.formats.pipeline import Pipeline
from forwarder.journal.sqlite import SqliteJournal
from forwarder.testing.fake_sinks import Answer, ScriptedSink
from forwarder.testing.memory_queue import MemoryQueue
from tests.delivery.rig import PATIENCE, Rig, limits, unable

STREAM = "access_requests"


@dataclass
class Choosy:
    """A format that cannot render the rows whose ``n`` is in ``bad``."""

    bad: range = range(0)
    media_type: str = "application/json"
    request_bodies: bool = True

    def render(self, event: Any) -> bytes:
        if event.row["n"] in self.bad:
            raise LookupError(f"s3cret {event.row}")
        return orjson.dumps(event.row)

    def adding(self, fields: Mapping[str, str]) -> "Choosy":  # noqa: ARG002 - as the contract has it
        return self


def choosy(start: int = 0, stop: int = 0) -> Pipeline:
    """Return how a sink's pages are rendered with a format at fault for some rows."""
    return Pipeline(Choosy(range(start, stop)), {}, {})


async def test_one_row_among_a_thousand_dies_and_the_others_are_delivered() -> None:
    rig = await Rig(rows=1000, render=choosy(617, 618)).settle()

    assert set(rig.sink.delivered) == set(range(1000)) - {617}
    assert rig.queue.progress() == Progress(1000)
    assert rig.queue.dead.keys() == {617}
    assert 617 not in [offset for write in rig.sink.writes for offset in write]


async def test_the_reason_names_the_type_and_the_place_and_nothing_of_the_row() -> None:
    rig = await Rig(rows=10, render=choosy(3, 4)).settle()
    reason = rig.queue.dead[3].reason

    assert reason.startswith("cannot be rendered: LookupError at delivery/test_unrendered.py:")
    assert "s3cret" not in reason


async def test_it_is_counted_as_rejected_and_told_once_a_page() -> None:
    rig = await Rig(rows=1000, render=choosy(10, 40)).settle()
    (settled,), (dead,) = rig.happened(BatchSettled), rig.happened(EventsDeadLettered)

    assert (settled.delivered, settled.rejected) == ({STREAM: 970}, {STREAM: 30})
    assert sum(settled.ages.counts) == 970
    assert sum(dead.reasons.values()) == 30
    assert len(dead.reasons) == 1


async def test_a_format_that_fails_for_every_row_holds_the_sink_and_nothing_dies() -> None:
    rig = Rig(rows=3000, render=choosy(0, 3000))
    await rig.run_for(600.0)
    state = rig.consumer.state()

    assert rig.queue.dead == {}
    assert len(rig.queue.outstanding()) == 3000
    assert rig.sink.writes == []
    assert state.phase is Phase.HELD
    assert "cannot be rendered: LookupError at delivery/test_unrendered.py" in str(state.error)
    assert "format" in state.hint
    assert rig.clock.looks < 3000


async def test_rows_kept_by_the_breaker_are_delivered_once_the_format_is_mended() -> None:
    rig = Rig(rows=3000, render=choosy(0, 3000))
    await rig.run_for(60.0)
    rig.render = choosy()
    rig.consumer = rig.new_consumer()
    await rig.settle()

    assert rig.once_each
    assert rig.queue.dead == {}


async def test_a_long_row_of_failures_dies_once_something_after_it_is_accepted() -> None:
    rig = Rig(ScriptedSink(limits=limits(50)), rows=500, render=choosy(100, 300))
    await rig.settle()

    assert rig.queue.dead.keys() == set(range(100, 300))
    assert len(rig.sink.delivered) == 300


async def test_without_room_for_dead_letters_the_sink_is_held_until_there_is() -> None:
    rig = Rig(rows=100, render=choosy(7, 8), queue=MemoryQueue(room=(0, 0)))
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.clock.sleep(30.0)
        held, kept = rig.consumer.state(), rig.queue.outstanding()
        rig.queue.room = (10, 1000)
        rig.consumer.wake()
        await rig.queue.settled()

    assert held.phase is Phase.HELD
    assert "no room for more dead letters" in str(held.error)
    assert kept == [7]
    assert rig.queue.dead.keys() == {7}


async def refuse_five(batch: Batch) -> WriteResult:
    if any(event.offset == 5 for event in batch.events):
        raise BatchRefusedError("not valid")
    return ACCEPTED


async def at_most_three(batch: Batch) -> WriteResult:
    if len(batch.events) > 3:
        raise BatchTooLargeError("more than three")
    return ACCEPTED


@pytest.mark.parametrize(
    ("answer", "dead"),
    [(refuse_five, {2, 3, 4, 5}), (at_most_three, {2, 3, 4})],
)
@pytest.mark.parametrize("release", [False, True])
async def test_batches_refused_around_such_rows_are_halved_as_ever(
    answer: Answer, dead: set[int], *, release: bool
) -> None:
    rig = Rig(ScriptedSink(otherwise=answer, release=release), rows=20, render=choosy(2, 5))
    await rig.settle()

    assert rig.queue.dead.keys() == dead
    assert set(rig.sink.delivered) == set(range(20)) - dead


async def test_an_outage_and_put_off_neighbours_change_nothing() -> None:
    answers: list[Answer] = [
        TransientError("away"),
        WriteResult(deferred=frozenset({1, 3})),
    ]
    rig = await Rig(ScriptedSink(answers), rows=10, render=choosy(2, 3)).settle()

    assert rig.queue.dead.keys() == {2}
    assert rig.sink.delivered == dict.fromkeys({*range(10)} - {2}, 1)


async def test_what_the_destination_was_not_asked_says_nothing_about_its_window() -> None:
    slow: list[Answer] = [WriteResult(slow_down=True) for _ in range(8)]
    rig = Rig(ScriptedSink(slow, limits=limits(1, at_once=8)), rows=38, render=choosy(8, 38))
    await rig.settle()

    assert len(rig.queue.dead) == 30
    assert rig.consumer.state().window == rig.happened(SinkThrottled)[-1].window < 8


async def test_backfills_and_replays_are_treated_alike() -> None:
    rig = Rig(rows=20, render=unable({3, 25}))
    rig.queue.open_lane("backfill:1", 20)
    rig.queue.append(10, lane="backfill:1")
    rig.queue.end_lane("backfill:1", 30)
    async with asyncio.timeout(PATIENCE), rig.running():
        await rig.queue.settled()
        await rig.queue.settled("backfill:1")
        first, rig.queue.dead = rig.queue.dead, {}
        rig.queue.replay("replay:1", 0, 10)
        await rig.queue.settled("replay:1")

    assert first.keys() == {3, 25}
    assert rig.queue.dead.keys() == {3}


async def test_a_replay_renders_the_dead_letter_anew(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(
        tmp_path / "state", Keeping(2**30, 10**9), clock=SystemClock(), emit=ignore
    )
    queue = await journal.sink_queue("siem", start_at="beginning")
    await journal.stream_log(StreamKey("a" * 32, STREAM)).append(_rows(1000))
    sink = ScriptedSink()

    async def deliver(render: Pipeline, events: int) -> None:
        """Run until so many events are delivered or dead."""
        left, done = events, asyncio.Event()

        def look(happening: TelemetryEvent) -> None:
            nonlocal left
            if isinstance(happening, BatchSettled):
                left -= happening.events
            if not left:
                done.set()

        consumer = Consumer(
            name="siem",
            sink=sink,
            queue=queue,
            render=render,
            options=DeliveryOptions(),
            clock=SystemClock(),
            rng=Random(1),
            emit=look,
        )
        task = asyncio.create_task(consumer.run())
        async with asyncio.timeout(PATIENCE):
            await done.wait()
            await consumer.drain(SystemClock().monotonic() + PATIENCE)
            await task

    await deliver(choosy(617, 618), 1000)
    (letter,) = await journal.letters()
    delivered = sum(sink.delivered.values())
    count = await journal.replay_letters("replay:1", "siem", None)
    await deliver(choosy(), 1)
    left = await journal.letters()
    await journal.aclose()

    assert delivered == 999
    assert orjson.loads(letter.row) == {"n": 617}
    assert "LookupError at delivery/test_unrendered.py" in letter.reason
    assert count == 1
    assert sum(sink.delivered.values()) == 1000
    assert left == []


def _rows(count: int) -> Addition:
    rows = [{"n": n} for n in range(count)]
    identities = Identifier("a" * 32, STREAM).identities(rows)
    found = [
        Record(orjson.dumps(row), 1_790_000_000_000_000, identity, frozenset(row))
        for row, identity in zip(rows, identities, strict=True)
    ]
    return Addition(LIVE, ReaderState(1_790_000_000_000_000), 1_790_000_000_000_000, found)
