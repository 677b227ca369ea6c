"""A job whose uploads are cut, repeated, regrouped, reordered, and faster than the journal."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from forwarder.core.schema import MALFORMED_KEY
from forwarder.simulator import ACCESS_REQUESTS, Simulator, SimulatorSettings
from forwarder.simulator.pushing import MISHAPS, Job, logins_of
from tests.end_to_end.processes import comparable, until
from tests.end_to_end.test_logpush import SECRET, Receiving
from tests.proof.ledger import Ledger

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]
CLOSED = 60.0
"""Seconds by the clock in which the gate of the journal is closed."""
TRAFFIC = SimulatorSettings(rate=40.0, scim_rate=0.0, history=900.0)


@pytest.fixture
async def forwarder(tmp_path: Path) -> AsyncIterator[Receiving]:
    running = Receiving(tmp_path, "journal: { max_size: 1MiB }")
    await running.start()
    yield running
    await running.kill()


def pause(forwarder: Receiving, *, paused: bool) -> None:
    """Let the only sink rest or work; applied by a restart."""
    text = forwarder.settings.read_text().replace(", paused: true", "")
    text = text.replace("format: raw }", "format: raw, paused: true }") if paused else text
    forwarder.settings.write_text(text)


def bare(event: dict[str, Any]) -> bytes:
    """Return the row of an event of format raw, as one line."""
    return comparable({key: value for key, value in event.items() if key != "_forwarder"})


async def test_nothing_is_lost_of_what_a_troubled_job_pushes(
    forwarder: Receiving, ledger: Ledger
) -> None:
    destination = f"{forwarder.url}?header_Authorization={SECRET}"
    job = Job(destination, 7, most_rows=500, mishaps=MISHAPS, share=0.4)
    cloud = Simulator(TRAFFIC)
    feed = next(one for one in cloud.feeds() if one.stream == ACCESS_REQUESTS)
    collected = 0

    def collect() -> None:
        nonlocal collected
        cloud.advance()
        fresh = logins_of(feed, collected)
        collected += len(fresh)
        job.collect(fresh)

    async with ClientSession() as http:
        await forwarder.stop()
        pause(forwarder, paused=True)
        await forwarder.start()
        collect()
        # Without a pause between them: faster than the gate, until it closes.
        async with asyncio.timeout(300):
            while job.happened["503"] < 3:
                collect()
                await job.upload(http)
        began, closed = time.monotonic(), Counter(job.happened)
        while time.monotonic() - began < CLOSED:
            collect()
            await job.upload(http)
            await asyncio.sleep(1)
        refused = job.happened["503"] - closed["503"]
        accepted = job.happened["200"] - closed["200"]
        await forwarder.stop(wait=60)
        pause(forwarder, paused=False)
        await forwarder.start()
        opened = time.monotonic()
        async with asyncio.timeout(300):
            while job.waiting:
                await job.upload(http)
                await asyncio.sleep(0.05)
    wanted = Counter(comparable(orjson.loads(row)) for row in job.taken)

    def events() -> list[dict[str, Any]]:
        stream = "logpush_access_requests"
        return [one for one in forwarder.events() if one["_forwarder"]["stream"] == stream]

    def lost() -> int:
        return (wanted - Counter(map(bare, events()))).total()

    await until(lambda: not lost(), 120)
    recovery = time.monotonic() - opened
    malformed = sum(MALFORMED_KEY in one for one in events())
    again = len(events()) - malformed - wanted.total()
    print(f"{wanted.total()} logins, {again} again, {dict(job.happened)}, {recovery:.1f} s")  # noqa: T201

    assert len(job.taken) == collected
    assert not accepted
    assert refused > 0
    assert all(job.happened[one] for one in (*MISHAPS, "0", "401", "503"))
    assert malformed >= job.bad_lines > 0
    ledger.row(
        "Logpush",
        f"uploads cut, repeated, regrouped, reordered, with a bad line, without the secret; the "
        f"journal full for {CLOSED:.0f} s",
        times=sum(job.happened[one] for one in MISHAPS),
        events=wanted.total(),
        lost=lost(),
        again=again,
        recovery=recovery,
        more=f"{job.happened['503']} answers of 503; {job.bad_lines} bad lines, an event each",
    )
