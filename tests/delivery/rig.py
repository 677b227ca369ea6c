"""One consumer with its fakes, and the questions that tests ask about it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TypeVar

from forwarder.core.contracts import BatchLimits, Rejection, Render, Rendered, StoredPage
from forwarder.core.telemetry import TelemetryEvent
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.testing.clock import FakeClock
from forwarder.testing.fake_sinks import ScriptedSink
from forwarder.testing.memory_queue import MemoryQueue, render_plainly

H = TypeVar("H", bound=TelemetryEvent)

PATIENCE = 30.0
"""Real seconds after which a test that waits has failed."""


class CountingClock(FakeClock):
    """A fake clock that knows how often it was looked at: what spins, looks."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic()


@dataclass
class Rig:
    """``Rig(sink=..., rows=100)``; ``async with rig.running():`` runs a consumer on it."""

    sink: ScriptedSink = field(default_factory=ScriptedSink)
    rows: int = 0
    options: DeliveryOptions = field(default_factory=DeliveryOptions)
    keep: Callable[[int], bool] = lambda _: True
    render: Render | None = None
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    clock: CountingClock = field(default_factory=CountingClock)
    happenings: list[TelemetryEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.rows:
            self.queue.append(self.rows)
        self.consumer = self.new_consumer()

    def new_consumer(self) -> Consumer:
        return Consumer(
            name="siem",
            sink=self.sink,
            queue=self.queue,
            render=self.render or partial(render_plainly, keep=self.keep),
            options=self.options,
            clock=self.clock,
            rng=Random(4),
            emit=self.happenings.append,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        """Run the consumer; at the end it is cancelled, as in a crash."""
        task = asyncio.create_task(self.consumer.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is not None:
                await task

    async def settle(self) -> "Rig":
        """Run until every live row is acknowledged."""
        async with asyncio.timeout(PATIENCE), self.running():
            await self.queue.settled()
            await self.clock.sleep(0.001)
        return self

    async def run_for(self, seconds: float) -> "Rig":
        """Run for so many seconds of the fake clock."""
        async with asyncio.timeout(PATIENCE), self.running():
            await self.clock.sleep(seconds)
        return self

    def happened(self, kind: type[H]) -> list[H]:
        return [one for one in self.happenings if isinstance(one, kind)]

    @property
    def sizes(self) -> list[int]:
        """The number of events in each write."""
        return [len(offsets) for offsets in self.sink.writes]

    @property
    def once_each(self) -> bool:
        """Whether every live row was delivered exactly once."""
        return self.sink.delivered == Counter(range(self.rows))


def limits(
    events: int = 1000,
    *,
    size: int = 10**9,
    wait: float = 0.2,
    at_once: int = 4,
    timeout: float = 60.0,
    event_bytes: int | None = None,
) -> BatchLimits:
    return BatchLimits(events, size, wait, at_once, timeout, event_bytes)


def unable(bad: Collection[int], render: Render = render_plainly) -> Render:
    """Render as ``render`` does, except that the rows at the offsets ``bad`` cannot be."""

    def rendered(page: StoredPage) -> Rendered:
        whole = render(page)
        failed = [
            Rejection(e.offset, "cannot be rendered") for e in whole.events if e.offset in bad
        ]
        return replace(
            whole, events=[e for e in whole.events if e.offset not in bad], failed=failed
        )

    return rendered
