"""A destination's bad hour: a random mix of answers, and three deaths."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from aiohttp import web

from tests.sinks.fakes.server import (
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


def bad_hour(server: FakeServer, rng: Random, length: int = 400) -> Counter[str]:
    """Let about every second of the next deliveries go wrong; count what they met as it comes."""
    met: Counter[str] = Counter()

    async def taken_and_reset(request: web.Request) -> web.StreamResponse:
        await server.answer(request)
        return await reset(request)

    async def taken_and_html(request: web.Request) -> web.StreamResponse:
        await server.answer(request)
        return await html(504)(request) or web.Response(status=504)

    mix: dict[str, tuple[Script, int]] = {
        "through": (through, 50),
        "throttled": (saying(429, "", **{"Retry-After": "0"}), 8),
        "503": (saying(503), 8),
        "html 502": (html(502), 6),
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

    names = rng.choices(list(mix), [weight for _, weight in mix.values()], k=length)
    server.script.extend(counted(name, mix[name][0]) for name in names)
    return met


async def die_three_times(server: FakeServer, deliveries: int, *, away: float = 0.2) -> None:
    """Kill the server after so many deliveries, and again after as many, and again."""
    for _ in range(3):
        await server.delivered(server.deliveries + deliveries)
        await server.kill()
        await asyncio.sleep(away)
        await server.start()
