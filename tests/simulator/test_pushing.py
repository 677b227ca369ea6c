"""A simulated job of Logpush uploads what was not taken again, and knows what was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web

from forwarder.simulator import (
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    Simulator,
    SimulatorSettings,
    Token,
)
from forwarder.simulator.faults import LOGPUSH_JOBS
from forwarder.simulator.pushing import Job, Mishap, run
from forwarder.simulator.settings import ALL_PERMISSIONS
from tests.simulator.reader import Reader

JOBS = f"/accounts/{DEFAULT_ACCOUNT}/logpush/jobs"


class Receiver:
    """Remembers what it was sent, and answers what a test says, at last 200."""

    def __init__(self) -> None:
        self.bodies: list[list[bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.query: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        content = await request.read()
        self.bodies.append(content.splitlines())
        self.headers.append(dict(request.headers))
        self.query.append(dict(request.query))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.add_routes([web.post("/{path:.*}", receiver.answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/acme/access_requests"
    yield receiver
    await runner.cleanup()


def logins(count: int) -> list[dict[str, Any]]:
    return [{"ray_id": f"{n:016x}", "user_email": "a@example.com", "new": 1} for n in range(count)]


def job_for(receiver: Receiver, *mishaps: Mishap, most_rows: int = 10) -> Job:
    url = f"{receiver.url}?header_X-Secret=a%20b+c&kept=1"
    return Job(url, 1, most_rows=most_rows, mishaps=mishaps, share=1.0)


async def upload(job: Job, times: int = 1) -> list[int]:
    async with ClientSession() as http:
        return [await job.upload(http) for _ in range(times)]


async def test_an_upload_has_the_headers_of_its_address_and_the_names_of_the_dataset(
    receiver: Receiver,
) -> None:
    job = job_for(receiver)
    job.collect(logins(1))

    assert await upload(job) == [200]
    assert receiver.headers[0]["X-Secret"] == "a b+c"
    assert receiver.query == [{"kept": "1"}]
    ((line,),) = receiver.bodies
    assert orjson.loads(line) == {"RayID": "0" * 16, "Email": "a@example.com"}


async def test_what_was_not_taken_comes_again_and_uploads_grow(receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    job = job_for(receiver)
    job.collect(logins(100))
    statuses = await upload(job, 4)

    assert statuses == [503, 429, 200, 200]
    assert [len(body) for body in receiver.bodies] == [10, 40, 40, 10]
    assert job.taken == [*receiver.bodies[2], *receiver.bodies[3]]
    assert job.waiting == 50


@pytest.mark.parametrize(
    ("mishap", "statuses", "sent", "taken"),
    [
        ("cut", [0], [], 0),
        ("repeated", [200], [10, 10], 10),
        ("regrouped", [200, 200], [10, 40], 0),
        ("reordered", [200], [10], 10),
        ("bad_line", [200], [11], 10),
        ("no_secret", [200], [10], 10),
    ],
)
async def test_each_mishap_does_what_it_says(
    receiver: Receiver, mishap: Mishap, statuses: list[int], sent: list[int], taken: int
) -> None:
    job = job_for(receiver, mishap)
    job.collect(logins(100))
    found = await upload(job, len(statuses))

    assert (found, [len(body) for body in receiver.bodies]) == (statuses, sent)
    assert len(job.taken) == taken
    assert job.happened[mishap] == len(statuses)
    assert job.bad_lines == (mishap == "bad_line")
    assert all(("X-Secret" in one) == (mishap != "no_secret") for one in receiver.headers)


async def test_the_api_lists_a_job_with_what_became_of_its_last_upload(receiver: Receiver) -> None:
    receiver.statuses = [503]
    async with Simulator(SimulatorSettings(history=60)) as simulator:
        pushing = asyncio.create_task(run(simulator, job_for(receiver), 0.01))
        seen = list[dict[str, Any]]()
        while not seen or seen[-1]["last_error"] or not seen[-1]["last_complete"]:
            (listed,) = (await Reader(simulator.url).get(JOBS)).rows
            seen.append(listed)
        pushing.cancel()

    assert {(one["dataset"], one["enabled"]) for one in seen} == {("access_requests", True)}
    assert {one["destination_conf"] for one in seen} == {job_for(receiver).destination}
    assert {None, "error uploading: HTTP 503"} >= {one["error_message"] for one in seen}


async def test_jobs_of_accounts_and_zones_can_be_added_and_are_for_those_who_may() -> None:
    narrow = Token("narrow", permissions=ALL_PERMISSIONS - {LOGPUSH_JOBS})
    tokens = (Token(DEFAULT_TOKEN), narrow)
    async with Simulator(SimulatorSettings(history=60, tokens=tokens)) as simulator:
        reader = Reader(simulator.url)
        added = {"dataset": "http_requests", "destination_conf": "https://a/b/c", "enabled": False}
        await reader.control("POST", "jobs", {"owner": "z1", **added})
        of_zone = await reader.get("/zones/z1/logpush/jobs")
        of_account = await reader.get(JOBS)
        refused = await Reader(simulator.url, "narrow").get("/zones/z1/logpush/jobs")

    assert [added] == [{key: row[key] for key in added} for row in of_zone.rows]
    assert [] == of_account.rows
    assert (403, 10000) == (refused.status, refused.code)
