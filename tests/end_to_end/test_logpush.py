"""What Logpush sends to a real process is stored before it is answered, whatever kills it."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from forwarder.testing.network import free_port
from tests.end_to_end.processes import Forwarder, cloudflare, until
from tests.end_to_end.test_operations import asked, command

SECRET = "the-secret-of-the-job"
NOWHERE = "http://127.0.0.1:9/client/v4"
BODY_ROWS = 200


class Receiving(Forwarder):
    """A forwarder that receives pushes; without a ``url`` it reads nothing from Cloudflare."""

    def __init__(self, folder: Path, *more: str, url: str = NOWHERE) -> None:
        super().__init__(folder, url)
        self.port = free_port()
        secret = folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET + "\n")
        with self.settings.open("a") as settings:
            where = f'listen: "127.0.0.1:{self.port}", secret_file: {secret}'
            settings.write(f"logpush: {{ {where}, deliver: both }}\n")
            settings.writelines(line + "\n" for line in more)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/acme/access_requests"

    def stored(self) -> int:
        """Return how many pushed rows the journal has, as another process sees it."""
        file = self.folder / "state" / "journal.db"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as session:
            (rows,) = session.execute(
                "SELECT coalesce(sum(count), 0) FROM page JOIN stream ON stream.id = page.stream "
                "WHERE name = 'logpush_access_requests'"
            ).fetchone()
        return int(rows)

    def pushed(self) -> Counter[str]:
        """Return the addresses in the pushed rows that are on stdout."""
        return Counter(
            event["Email"]
            for event in self.events()
            if event["_forwarder"]["stream"] == "logpush_access_requests"
        )


def row(number: int) -> bytes:
    return orjson.dumps(
        {
            "Allowed": True,
            "CreatedAt": f"2026-11-30T08:{number // 60 % 60:02d}:{number % 60:02d}Z",
            "Email": f"user{number}@example.com",
        }
    )


def body(numbers: Sequence[int]) -> bytes:
    return gzip.compress(b"\n".join(map(row, numbers)) + b"\n", mtime=0)


async def push(forwarder: Receiving, content: bytes) -> str:
    """Send a body until it is taken, as Cloudflare does; return the text of the answer."""
    headers = {"Authorization": SECRET, "Content-Encoding": "gzip"}
    async with asyncio.timeout(60), ClientSession(timeout=ClientTimeout(10)) as http:
        while True:
            try:
                async with http.post(forwarder.url, data=content, headers=headers) as answer:
                    if answer.status == 200:
                        return (await answer.text()).strip()
            except (ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)


async def push_and_hear_nothing(forwarder: Receiving, content: bytes) -> asyncio.StreamWriter:
    """Send a body whole, and never read the answer; the connection is open while it is held."""
    _, writer = await asyncio.open_connection("127.0.0.1", forwarder.port)
    head = (
        f"POST /acme/access_requests HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\n"
        f"Content-Encoding: gzip\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    await writer.drain()
    return writer


@pytest.fixture
async def forwarder(tmp_path: Path) -> AsyncIterator[Receiving]:
    running = Receiving(tmp_path)
    await running.start()
    yield running
    await running.kill()


async def test_status_shows_pushes_and_cursors_claim_no_coverage(forwarder: Receiving) -> None:
    await push(forwarder, body(range(3)))
    # Not ready, since it reads nothing: then the command's exit status is 1.
    _, state, _ = await command(forwarder, "status", "--json")
    (pushed,) = orjson.loads(state)["pushes"]
    _, table, _ = await command(forwarder, "status")
    cursors = await asked(forwarder, "cursors", "list")

    assert ("acme", "access_requests", 3) == (
        pushed["account"], pushed["dataset"], pushed["rows"]
    )  # fmt: skip
    assert pushed["last_push_seconds_ago"] < 120 < pushed["oldest_row_seconds"]
    assert "pushed dataset" in table
    assert [""] == [one["covered_until"] for one in cursors if one["reader"] == "push"]


async def test_the_simulator_pushes_the_logins_that_it_shows(forwarder: Receiving) -> None:
    def logins() -> list[dict[str, Any]]:
        stream = "logpush_access_requests"
        return [one for one in forwarder.events() if one["_forwarder"]["stream"] == stream]

    url = f"{forwarder.url}?header_Authorization={SECRET}"
    async with cloudflare("--history", "5m", "--push", url, "--push-faults", "0.3"):
        await until(lambda: len(logins()) > 100, 60)

    assert {"CreatedAt", "IPAddress", "RayID"} <= {key for one in logins() for key in one}


@pytest.mark.parametrize(
    "kills", [2, pytest.param(100, marks=[pytest.mark.proof, pytest.mark.timeout(1200)])]
)
async def test_kills_between_commit_and_answer_lose_nothing_and_repeat_nothing(
    forwarder: Receiving, kills: int
) -> None:
    answers = [await push(forwarder, body([0]))]
    for kill in range(kills):
        content = body(range(1 + kill * BODY_ROWS, 1 + (kill + 1) * BODY_ROWS))
        connection = await push_and_hear_nothing(forwarder, content)
        async with asyncio.timeout(60):
            while forwarder.stored() < 1 + (kill + 1) * BODY_ROWS:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.001)
        await forwarder.kill()
        connection.close()
        await forwarder.start()
        answers.append(await push(forwarder, content))
    rows = 1 + kills * BODY_ROWS
    await until(lambda: len(forwarder.pushed()) == rows, 60)

    assert ["accepted", *["duplicate"] * kills] == answers
    assert forwarder.stored() == rows


@pytest.mark.parametrize(
    "kills", [2, pytest.param(50, marks=[pytest.mark.proof, pytest.mark.timeout(1200)])]
)
async def test_kills_at_any_moment_lose_nothing(forwarder: Receiving, kills: int) -> None:
    """A body of several parts is cut by the kill anywhere; what it had stored is recognised."""
    bodies = [
        gzip.compress(
            b"".join(
                orjson.dumps({"Email": f"user{one}-{number}@example.com", "Pad": "x" * 600}) + b"\n"
                for number in range(6000)
            ),
            1,
            mtime=0,
        )
        for one in range(kills)
    ]
    await push(forwarder, body([0]))
    for kill, content in enumerate(bodies):
        connection = await push_and_hear_nothing(forwarder, content)
        await asyncio.sleep(0.015 * (kill % 12))
        await forwarder.kill()
        connection.close()
        await forwarder.start()
        await push(forwarder, content)
    rows = 1 + kills * 6000
    await until(lambda: len(forwarder.pushed()) == rows, 120)

    assert forwarder.stored() == rows


async def test_a_full_journal_delays_pushes_and_loses_none(tmp_path: Path) -> None:
    """The only sink is paused, so that nothing leaves the journal until it is full."""
    forwarder = Receiving(tmp_path, "journal: { max_size: 1MiB }")
    text = forwarder.settings.read_text()
    forwarder.settings.write_text(text.replace("format: raw }", "format: raw, paused: true }"))
    await forwarder.start()
    statuses = Counter[int]()
    bodies = [
        gzip.compress(
            b"".join(
                orjson.dumps({"Email": f"user{one}-{n}@example.com", "Pad": hex(n**90)}) + b"\n"
                for n in range(2000, 3000)
            ),
            mtime=0,
        )
        for one in range(10)
    ]
    headers = {"Authorization": SECRET, "Content-Encoding": "gzip"}
    await push(forwarder, body([0]))
    async with ClientSession() as http:
        for content in bodies:
            async with http.post(forwarder.url, data=content, headers=headers) as answer:
                statuses[answer.status] += 1
            # The gate looks twice a second.
            await asyncio.sleep(0.6)
    forwarder.settings.write_text(text)
    await forwarder.stop(wait=60)
    await forwarder.start()
    for content in bodies:
        await push(forwarder, content)
    await until(lambda: len(forwarder.pushed()) == 10_001, 60)
    await forwarder.kill()

    assert set(statuses) == {200, 503}
    assert max(forwarder.pushed().values()) == 1
