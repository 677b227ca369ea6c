"""One word for how the forwarder is, from its start to a dead letter."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from tests.end_to_end.processes import SCRIPT, Forwarder, cloudflare, until


@pytest.fixture
async def picky() -> AsyncIterator[str]:
    """A destination that refuses one event for ever: the first that it meets."""
    refused: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        refused.extend(body.splitlines()[:1] if not refused else ())
        return web.Response(status=400 if refused[0] in body else 200)

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def printed(forwarder: Forwarder) -> tuple[int | None, str]:
    """Return the exit status of ``forwarder status`` and its first lines."""
    process = await asyncio.create_subprocess_exec(
        SCRIPT, "status", "-c", forwarder.settings, stdout=PIPE
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_the_state_follows_what_happens(picky: str, tmp_path: Path) -> None:
    """No answer yet: not ready. Answers: ready. An event given up: degraded, and still ready."""
    async with cloudflare("--rate", "2", "--history", "1m") as api, ClientSession() as http:
        await api.command("faults", [{"kind": "error", "status": 503, "times": None}])
        forwarder = Forwarder(tmp_path, api.url)
        text = forwarder.settings.read_text()
        sinks = f"sinks:\n  picky: {{ type: http, format: raw, url: {picky} }}\n"
        forwarder.settings.write_text(text.replace("sinks:\n", sinks))
        await forwarder.start()

        async def found(path: str) -> Any:
            async with http.get(await forwarder.admin_url() + path) as answer:
                return answer.status, await answer.json()

        async def failing() -> bool:
            return "is waiting" in str((await found("/readyz"))[1]["reasons"])

        async def degraded() -> bool:
            return bool((await found("/status"))[1]["state"] == "degraded")

        try:
            await until(failing)
            before = (await found("/readyz"))[0], (await found("/status"))[1]["state"]
            await api.end_faults()
            await until(degraded)
            after, state = await found("/readyz"), (await found("/status"))[1]
            code, shown = await printed(forwarder)
        finally:
            await forwarder.kill()

    assert before == (503, "not_ready")
    assert (after[0], state["ready"]) == (200, True)
    assert state["reasons"] == ["sink picky gave up 1 event(s) in the last 15 min"]
    assert (code, shown.splitlines()[1].strip()) == (0, state["reasons"][0])
    assert shown.startswith("degraded")
