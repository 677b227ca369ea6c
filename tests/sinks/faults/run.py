"""One consumer with a real sink over real sockets, until every event is accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random

from forwarder.core.contracts import Rendered, Sink, StoredPage
from forwarder.core.timing import Backoff, SystemClock
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.options import DeliveryOptions
from forwarder.testing.fake_sinks import make_event
from forwarder.testing.memory_queue import MemoryQueue

_PATIENCE = 110.0
_IMPATIENT = Backoff(initial=0.01, max=0.05, slow_initial=0.02, slow_max=0.05)


@dataclass(frozen=True)
class Outcome:
    """Which ids were to be delivered and which are dead letters."""

    ids: Collection[str]
    dead: Collection[str]


async def deliver_all(
    sink: Sink,
    events: int,
    *,
    poison: Callable[[int], bytes | None] = lambda _: None,
    max_events: int = 100,
    seed: int = 7,
) -> Outcome:
    """Store ``events`` rows and run a consumer until each is acknowledged.

    ``poison`` gives the body of an event that the destination must refuse, or None.
    """
    queue = MemoryQueue()
    offsets = queue.append(events)

    def render(page: StoredPage) -> Rendered:
        rows = range(page.first_offset, page.end_offset)
        return Rendered([make_event(o, body=poison(o)) for o in rows], page.end_offset)

    consumer = Consumer(
        name="destination",
        sink=sink,
        queue=queue,
        render=render,
        options=DeliveryOptions(
            max_events=max_events, backoff=_IMPATIENT, breaker=10_000, max_wait=0.01
        ),
        clock=SystemClock(),
        rng=Random(seed),
    )
    running = asyncio.create_task(consumer.run())
    try:
        async with asyncio.timeout(_PATIENCE):
            await queue.settled()
    finally:
        running.cancel()
        await asyncio.wait([running])
    identities = {offset: make_event(offset).id for offset in offsets}
    return Outcome(set(identities.values()), {identities[offset] for offset in queue.dead})
