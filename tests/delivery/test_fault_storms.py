"""All kinds of trouble at once, crashes among them: nothing is lost, nothing doubled unasked."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.contracts import BatchLimits, StoredPage
from forwarder.core.log import DeadLetter, Progress
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import Backoff, SystemClock
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.events import BatchSettled, EventsDeadLettered
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.testing.fake_sinks import WEIGHTS, RandomFaults, ScriptedSink
from forwarder.testing.memory_queue import MemoryQueue, render_plainly
from tests.delivery.rig import PATIENCE, Rig, limits, unable


@dataclass
class Storm:
    """A rig in foul weather, with what a naive account of it says."""

    rig: Rig
    faults: RandomFaults
    lost_acks: Counter[int]
    most_tasks: int = 0

    async def crash(self) -> None:
        """Forget everything but the queue; delivered and not acknowledged may come again."""
        for lane in await self.rig.queue.lanes():
            undone = self.rig.queue.outstanding(lane.name)
            self.lost_acks.update(o for o in undone if self.rig.sink.delivered[o])
        self.rig.sink.under_way = 0
        self.rig.consumer = self.rig.new_consumer()

    async def ride_out(self, crashes: list[float]) -> None:
        for seconds in crashes:
            async with self.rig.running():
                await self.rig.clock.sleep(seconds)
                self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
            await self.crash()
        async with self.rig.running():
            for lane in await self.rig.queue.lanes():
                await self.rig.queue.settled(lane.name)
            self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))


class FlakyQueue(MemoryQueue):
    """A journal that fails now and then; an acknowledgement may fail after it was stored."""

    rng = Random(0)

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        self._maybe_fail()
        return await super().read(lane, offset, max_rows)

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        self._maybe_fail()
        await super().acknowledge(lane, progress, dead)
        self._maybe_fail()

    async def dead_letter_room(self) -> tuple[int, int]:
        self._maybe_fail()
        return await super().dead_letter_room()

    def _maybe_fail(self) -> None:
        if self.rng.random() < 0.05:
            raise OSError("disk")


@given(
    seed=st.integers(0, 2**32),
    batch=st.sampled_from([1, 7, 50, 400]),
    at_once=st.sampled_from([1, 3, 8]),
    crashes=st.lists(st.floats(0.1, 90.0), max_size=3),
    rejects=st.frozensets(st.integers(0, 399), max_size=6),
    poison=st.frozensets(st.integers(0, 399), max_size=4),
    release=st.booleans(),
    most_bytes=st.sampled_from([None, 60, 1500]),
    keep=st.sampled_from([1, 3]),
    broken=st.frozensets(st.integers(0, 399), max_size=6),
)
@settings(max_examples=50)
def test_every_event_arrives_or_is_a_dead_letter(  # noqa: PLR0913 - each is one dimension of the storm
    *,
    seed: int,
    batch: int,
    at_once: int,
    crashes: list[float],
    rejects: frozenset[int],
    poison: frozenset[int],
    release: bool,
    most_bytes: int | None,
    keep: int,
    broken: frozenset[int],
) -> None:
    async def storm() -> None:
        queue = FlakyQueue()
        queue.rng = Random(seed)
        plainly = partial(render_plainly, keep=lambda offset: offset % keep == 0)
        rig = Rig(render=unable(broken, plainly), queue=queue)
        rig.queue.append(250, page_size=60)
        rig.queue.skip(3)
        rig.queue.open_lane("backfill:1", rig.queue.next_offset)
        rig.queue.append(100, lane="backfill:1", page_size=33)
        rig.queue.end_lane("backfill:1", rig.queue.next_offset + 5)
        rig.queue.append(47)
        faults = RandomFaults(
            Random(seed), rig.clock, rejects=rejects, poison=poison, most_bytes=most_bytes
        )
        rig.sink = ScriptedSink(
            otherwise=faults, limits=limits(batch, at_once=at_once, timeout=20.0), release=release
        )
        rig.consumer = rig.new_consumer()
        one = Storm(rig, faults, Counter())
        async with asyncio.timeout(PATIENCE):
            await one.ride_out(crashes)

        rows = {*range(250), *range(253, 400)}
        wanted = {offset for offset in rows if offset % keep == 0}
        dead = set(rig.queue.dead)
        assert dead == (rejects | poison | broken) & wanted, (
            "exactly the bad events are dead letters"
        )
        assert rig.sink.delivered.keys() | dead == wanted, "every event arrived or is dead"
        assert rig.sink.delivered.keys().isdisjoint(dead), "no dead letter arrived"
        assert broken.isdisjoint(o for write in rig.sink.writes for o in write), "sent nothing"
        excused = faults.arrived + one.lost_acks
        assert all(n <= 1 + excused[o] for o, n in rig.sink.delivered.items()), "doubled unasked"
        assert one.most_tasks <= at_once + 10, "a handful of tasks, however long the backlog"

    asyncio.run(storm())


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_what_is_reported_adds_up(seed: int) -> None:
    async def storm() -> None:
        rig = Rig(rows=600)
        bad = frozenset(Random(seed).sample(range(600), 5))
        faults = RandomFaults(Random(seed), rig.clock, rejects=bad)
        rig.sink = ScriptedSink(otherwise=faults, limits=limits(40, timeout=20.0))
        rig.consumer = rig.new_consumer()
        await rig.settle()

        settled = rig.happened(BatchSettled)
        assert sum(sum(one.delivered.values()) for one in settled) == 595
        assert sum(sum(one.ages.counts) for one in settled) == 595
        dead = rig.happened(EventsDeadLettered)
        assert sum(sum(one.reasons.values()) for one in dead) == 5

    asyncio.run(storm())


async def test_twenty_thousand_events_through_real_trouble_in_real_time() -> None:
    """The same with the machine's own clock: no fake can hide a race."""
    rows, happenings = 20_000, list[TelemetryEvent]()
    queue = MemoryQueue()
    queue.append(rows)
    clock = SystemClock()
    bad = frozenset(range(7, rows, 2501))
    faults = RandomFaults(
        Random(7),
        clock,
        # Often enough that each comes, however few writes a slow machine makes.
        WEIGHTS | {"throttled": 0.0, "operator": 0.5, "bug": 0.5},
        rejects=bad,
        poison=frozenset({12_345}),
    )
    sink = ScriptedSink(otherwise=faults, limits=BatchLimits(100, 10**6, 0.02, 8, 0.2))
    backoff = Backoff(initial=0.01, max=0.1, slow_initial=0.02, slow_max=0.1)
    consumer = Consumer(
        name="siem",
        sink=sink,
        queue=queue,
        render=render_plainly,
        options=DeliveryOptions(backoff=backoff),
        clock=clock,
        rng=Random(7),
        emit=happenings.append,
    )
    run = asyncio.create_task(consumer.run())
    async with asyncio.timeout(60.0):
        await queue.settled()
        await consumer.drain(clock.monotonic() + 5.0)
    await run

    assert set(queue.dead) == bad | {12_345}
    assert sink.delivered.keys() == set(range(rows)) - set(queue.dead)
    assert all(n <= 1 + faults.arrived[offset] for offset, n in sink.delivered.items())
    assert {kind for kind, weight in faults.weights.items() if weight} == faults.given.keys()
    assert len(asyncio.all_tasks()) == 1
