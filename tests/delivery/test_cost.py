"""What the engine costs: memory that does not grow with the backlog, and time for each event."""

import asyncio
import time
import tracemalloc
from array import array
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from forwarder.core.contracts import (
    ACCEPTED,
    LIVE,
    Batch,
    BatchLimits,
    Rendered,
    StoredPage,
    WriteResult,
)
from forwarder.core.errors import TransientError
from forwarder.core.log import DeadLetter, Lane, Progress
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.testing.clock import FakeClock
from forwarder.testing.fake_sinks import hang
from forwarder.testing.memory_queue import MemoryQueue, render_plainly

ROWS = 1_000_000
PAGE = 1000
_TIMES, _IDS, _BODY = array("q", range(PAGE)), b"\0" * (16 * PAGE), b"[]"


class VastQueue:
    """A million rows that exist only while they are read."""

    def __init__(self) -> None:
        self.progress = Progress(0)
        self.ended = asyncio.Event()

    async def lanes(self) -> Sequence[Lane]:
        return [Lane(LIVE, self.progress, None)]

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        assert (lane, max_rows > 0) == (LIVE, True)
        if offset >= ROWS:
            return []
        start, rest = offset, PAGE - offset % PAGE
        return [StoredPage(start, "a", "s", 0, _TIMES[:rest], _IDS[: 16 * rest], _BODY)]

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        assert (lane, list(dead)) == (LIVE, [])
        self.progress = progress
        if progress.prefix >= ROWS:
            self.ended.set()

    async def wait(self, lane: str, offset: int) -> None:
        assert (lane, offset) == (LIVE, ROWS)
        await asyncio.Event().wait()

    async def dead_letter_room(self) -> tuple[int, int]:
        return 10_000, 10_000_000


def _render_a_kilobyte(page: StoredPage) -> Rendered:
    """Every event has a body of its own, as rendering makes it."""
    first = page.first_offset
    events = [
        event._replace(offset=first + i, body=bytes(1000))
        for i, event in enumerate(TEMPLATE[: page.count])
    ]
    return Rendered(events, page.end_offset)


async def _one_page() -> StoredPage:
    queue = MemoryQueue()
    queue.append(PAGE)
    return (await queue.read(LIVE, 0, PAGE))[0]


TEMPLATE = list(render_plainly(asyncio.run(_one_page())).events)


class PlainSink:
    """Keeps no accounts: memory is what is measured."""

    def __init__(self, answer: Callable[[Batch], Awaitable[WriteResult]]) -> None:
        self.limits = BatchLimits(max_events=1000, max_bytes=1_000_000, max_in_flight=4)
        self._answer = answer

    async def open(self) -> None:
        pass

    async def write(self, batch: Batch) -> WriteResult:
        return await self._answer(batch)

    async def aclose(self) -> None:
        pass


async def _accept(batch: Batch) -> WriteResult:
    assert batch.events
    await asyncio.sleep(0)
    return ACCEPTED


async def test_four_sinks_that_are_down_cost_little_memory_whatever_waits_for_them() -> None:
    clock = FakeClock()
    good = True

    async def away(_: Batch) -> WriteResult:
        raise TransientError("away")

    async def busy(_: Batch) -> WriteResult:
        raise TransientError("busy", retry_after=9.0)

    async def defer(batch: Batch) -> WriteResult:
        return WriteResult(deferred=frozenset(event.offset for event in batch.events))

    def after_a_while(fault: Callable[[Batch], Awaitable[WriteResult]]) -> PlainSink:
        async def answer(batch: Batch) -> WriteResult:
            await clock.sleep(0.1)
            return ACCEPTED if good else await fault(batch)

        return PlainSink(answer)

    consumers = [
        Consumer(
            name=fault.__name__,
            sink=after_a_while(fault),
            queue=VastQueue(),
            render=_render_a_kilobyte,
            options=DeliveryOptions(),
            clock=clock,
            rng=Random(1),
        )
        for fault in (away, busy, defer, hang)
    ]
    tracemalloc.start()
    try:
        runs = [asyncio.create_task(consumer.run()) for consumer in consumers]
        await clock.sleep(1.0)
        good = False
        await clock.sleep(20.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for run in runs:
        run.cancel()
    await asyncio.wait(runs)

    assert peak < 60 * 2**20


async def test_the_engine_costs_little_for_each_event() -> None:
    """The budget is 1.5 microseconds; a busy machine is given four times as much."""
    pages: dict[int, Rendered] = {}

    def render(page: StoredPage) -> Rendered:
        if page.first_offset not in pages:
            first = page.first_offset
            events = [one._replace(offset=first + i) for i, one in enumerate(TEMPLATE)]
            pages[first] = Rendered(events, page.end_offset)
        return pages[page.first_offset]

    spent = []
    for _ in range(2):
        queue = VastQueue()
        queue.progress = Progress(ROWS - 100_000)
        consumer = Consumer(
            name="null",
            sink=PlainSink(_accept),
            queue=queue,
            render=render,
            options=DeliveryOptions(),
            clock=FakeClock(patience=None),
            rng=Random(1),
        )
        started = time.process_time()
        run = asyncio.create_task(consumer.run())
        await asyncio.wait_for(queue.ended.wait(), 30.0)
        spent.append((time.process_time() - started) / 100_000)
        run.cancel()
        await asyncio.wait([run])

    assert min(spent) < 4 * 1.5e-6
