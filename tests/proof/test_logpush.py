"""What the receiver of Logpush carries on one core, and in how much memory."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import psutil
import pytest
from aiohttp import BytesPayload, ClientSession, ClientTimeout

from tests.end_to_end.processes import until
from tests.end_to_end.test_logpush import SECRET, Receiving
from tests.proof.ledger import Ledger

pytestmark = [pytest.mark.proof, pytest.mark.alone, pytest.mark.timeout(900)]
ROWS_A_SECOND = 5000
_SECTION = "Logpush"
BODY = 5_000_000
"""Bytes of a body before it is packed: what the documentation tells to set."""
MOST_MEMORY = 250 * 2**20
HEADERS = {"Authorization": SECRET, "Content-Encoding": "gzip"}
SINKS = """\
sinks:
  one: { type: file, format: raw, path: FOLDER/one.ndjson, max_size: 10GiB }
  two: { type: file, format: ecs, path: FOLDER/two.ndjson, max_size: 10GiB }
  three: { type: file, format: cef, path: FOLDER/three.log, max_size: 10GiB }
"""


def login(number: int) -> bytes:
    """Return a row as large as Cloudflare's are on average."""
    return orjson.dumps(
        {
            "Action": "login",
            "Allowed": number % 7 > 0,
            "AppDomain": f"app{number % 50}.example.com/",
            "AppUUID": f"{number % 50:032x}",
            "Connection": "saml",
            "Country": "de",
            "CreatedAt": f"2026-11-30T08:{number // 60 % 60:02d}:{number % 60:02d}.{number:09d}Z",
            "Email": f"user{number}@example.com",
            "IPAddress": f"198.51.{number // 250 % 250}.{number % 250}",
            "PurposeJustificationPrompt": "",
            "PurposeJustificationResponse": "",
            "RayID": f"{number:016x}",
            "TemporaryAccessApprovers": [],
            "TemporaryAccessDuration": 0,
            "UserUID": f"{number * 7919 % 2**64:016x}-0000-4000-8000-000000000000",
        }
    )


def body(first: int) -> tuple[bytes, int]:
    """Return a packed body of about ``BODY`` bytes, and how many rows it has."""
    rows, size = list[bytes](), 0
    while size < BODY:
        rows.append(login(first + len(rows)))
        size += len(rows[-1]) + 1
    return gzip.compress(b"\n".join(rows) + b"\n", 1, mtime=0), len(rows)


def high_water(pid: int) -> int:
    """Return the most memory that a process has had, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


def lines(folder: Path) -> list[int]:
    """Return how many events each sink has: the rows, and a few of the forwarder's own."""
    return [
        (folder / name).read_bytes().count(b"\n")
        for name in ("one.ndjson", "two.ndjson", "three.log")
    ]


@pytest.fixture
async def forwarder(tmp_path: Path) -> AsyncIterator[Receiving]:
    running = Receiving(tmp_path)
    text = running.settings.read_text()
    head, _, tail = text.partition("sinks:\n")
    sinks = SINKS.replace("FOLDER", str(tmp_path))
    running.settings.write_text(head + sinks + tail.partition("\n")[2])
    await running.start()
    psutil.Process(running.process.pid).cpu_affinity([0])
    await until(running.has_started, 60)
    yield running
    await running.kill()


async def post(http: ClientSession, url: str, content: bytes) -> str:
    async with http.post(url, data=BytesPayload(content), headers=HEADERS) as answer:
        return (await answer.text()).strip()


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_five_thousand_rows_a_second_reach_three_sinks_on_one_core(
    forwarder: Receiving, ledger: Ledger
) -> None:
    """Counted in time of the processor, so that others on this machine do not matter."""
    bodies = [body(number * 20_000) for number in range(10)]
    rows = sum(count for _, count in bodies)
    process = psutil.Process(forwarder.process.pid)
    began, cpu = time.monotonic(), process.cpu_times()
    answers, slowest = [], 0.0
    async with ClientSession(timeout=ClientTimeout(120)) as http:
        for content, _ in bodies:
            sent = time.monotonic()
            answers.append(await post(http, forwarder.url, content))
            slowest = max(slowest, time.monotonic() - sent)
    while min(await asyncio.to_thread(lines, forwarder.folder)) < rows:
        assert time.monotonic() - began < 300
        await asyncio.sleep(2)
    used = process.cpu_times()
    seconds = used.user + used.system - cpu.user - cpu.system

    assert answers == ["accepted"] * len(bodies)
    assert all(rows < found < rows + 20 for found in lines(forwarder.folder))
    assert rows / seconds > ROWS_A_SECOND
    ledger.row(
        _SECTION,
        f"bodies of {BODY // 10**6} MB, one after the other, to three files",
        times=len(bodies),
        events=rows,
        lost=0,
        more=f"{rows / seconds:,.0f} rows a second of the processor, slowest answer "
        f"{slowest:.2f} s, {high_water(process.pid) / 2**20:.0f} MiB at most",
    )


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_eight_bodies_in_flight_stay_in_memory_beside_slow_connections(
    forwarder: Receiving, ledger: Ledger
) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", forwarder.port) for _ in range(300)]
    for number, (_, writer) in enumerate(silent):
        writer.write(b"POST /acme/access_requests HTTP/1.1\r\nX: "[: 10 + number % 35])
    bodies = [body(number * 20_000)[0] for number in range(8)]
    async with ClientSession(timeout=ClientTimeout(120)) as http:
        began = time.monotonic()
        answers = await asyncio.gather(*(post(http, forwarder.url, one) for one in bodies))
        seconds = time.monotonic() - began
        again = await asyncio.gather(*(post(http, forwarder.url, one) for one in bodies))
    most = high_water(forwarder.process.pid)
    for _, writer in silent:
        writer.close()

    assert answers == ["accepted"] * 8
    assert again == ["duplicate"] * 8
    assert most < MOST_MEMORY
    ledger.row(
        _SECTION,
        f"bodies of {BODY // 10**6} MB at once, beside {len(silent)} connections that stall",
        times=len(bodies),
        more=f"stored in {seconds:.1f} s, each recognised when it comes again,"
        f" {most / 2**20:.0f} MiB at most",
    )
