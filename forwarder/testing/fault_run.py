"""A destination's bad hour, and a consumer that delivers through it: count what arrives.

    async with Receiver() as server:
        met = bad_hour(server, Random(1))
        outcome = await deliver_all(server.sink(), 20_000)

        assert set(server.arrived()) == set(outcome.ids)

Every id must be there or be a dead letter. An id may be there twice only if a request was taken
and its answer lost.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random

from aiohttp import web

from forwarder.core.contracts import Rendered, Sink, StoredPage
from forwarder.core.timing import Backoff, SystemClock
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.testing.fake_server import (
    FakeServer,
    Script,
    half_an_answer,
    html,
    reset,
    reset_early,
    saying,
    silence,
    through,
)
from forwarder.testing.fake_sinks import make_event
from forwarder.testing.memory_queue import MemoryQueue


def bad_hour(server: FakeServer, rng: Random, length: int = 400) -> Counter[str]:
    """Let about half of the next ``length`` deliveries go wrong.

    Returns a counter that grows as the deliveries meet their faults.
    """
    met: Counter[str] = Counter()

    # The two answers after which nobody can know: events that met them may be there twice.
    async def taken_and_reset(request: web.Request) -> web.StreamResponse:
        await server.answer(request)
        # The server has the events and the client cannot know it.
        return await reset(request)

    async def taken_and_html(request: web.Request) -> web.StreamResponse:
        await server.answer(request)
        return await html(504)(request) or web.Response(status=504)

    mix: dict[str, tuple[Script, int]] = {
        "through": (through, 50),
        # Weights: about half of the deliveries go through, or a run would take hours.
        "throttled": (saying(429, "", **{"Retry-After": "0"}), 8),
        "503": (saying(503), 8),
        "html 502": (html(502), 6),
        # A load balancer may send its own page with 200: only the body shows that nothing came.
        "html 200": (html(200), 4),
        "reset": (reset, 6),
        "reset early": (reset_early, 4),
        "half an answer": (half_an_answer, 4),
        "silence": (silence, 2),
        "taken, then reset": (taken_and_reset, 4),
        "taken, then html 504": (taken_and_html, 4),
    }

    def counted(name: str, script: Script) -> Script:
        async def meet(request: web.Request) -> web.StreamResponse | None:
            met[name] += 1
            return await script(request)

        return meet

    # Drawn before the run: the faults depend on the seed, not on how requests are timed.
    names = rng.choices(list(mix), [weight for _, weight in mix.values()], k=length)
    server.script.extend(counted(name, mix[name][0]) for name in names)
    return met


async def die_three_times(server: FakeServer, deliveries: int, *, away: float = 0.2) -> None:
    """Kill the server three times, each after ``deliveries`` more, for ``away`` seconds."""
    for _ in range(3):
        # By deliveries and not by time: a slow machine meets the same faults.
        await server.delivered(server.deliveries + deliveries)
        await server.kill()
        await asyncio.sleep(away)
        await server.start()


_PATIENCE = 110.0
_IMPATIENT = Backoff(initial=0.01, max=0.05, slow_initial=0.02, slow_max=0.05)


@dataclass(frozen=True)
class Outcome:
    """The ids of all events, and of those that became dead letters."""

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
    """Store ``events`` rows and run a consumer until each is acknowledged or a dead letter.

    ``poison`` returns the body of an event that the destination must refuse, or None for an
    ordinary event. ``seed`` feeds the jitter of the retries.
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
            # A breaker so high never opens: the destination is meant to be at fault here.
            max_events=max_events,
            backoff=_IMPATIENT,
            breaker=10_000,
            max_wait=0.01,
        ),
        clock=SystemClock(),
        rng=Random(seed),  # noqa: S311 - jitter of a test  # nosec B311
    )
    running = asyncio.create_task(consumer.run())
    try:
        async with asyncio.timeout(_PATIENCE):
            await queue.settled()
    finally:
        running.cancel()
        await asyncio.wait([running])
    # The consumer knows offsets; destinations are asked for ids.
    identities = {offset: make_event(offset).id for offset in offsets}
    return Outcome(set(identities.values()), {identities[offset] for offset in queue.dead})
