"""The same bytes with nothing of ours: ``python -m bench.floors KINDS ROWS API PORTS FOLDER``.

Reads pages as the daemon would ask for them, parses and writes each row with orjson, and for each
row hands as many ready bytes to the bare client as the daemon would: no journal, no identity, no
normalising. With 0 for API nothing is read: ready bytes only. Prints events a second and CPU
microseconds an event.
"""

from __future__ import annotations

import sys
import time
from asyncio import Semaphore, TaskGroup
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import orjson
import uvloop
from aiohttp import ClientSession

from bench.clients import IN_FLIGHT, SILENT, Push, connect
from bench.recordings import Recording

_ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
_PAGE = 1000


async def pages(http: ClientSession, api: int, count: int, *, parsed: bool) -> AsyncIterator[int]:
    """Fetch the API's rows and write them as JSON again; give the number on each page."""
    url = f"http://127.0.0.1:{api}/client/v4/accounts/{_ACCOUNT}/access/logs/access_requests"
    for page in range(1, count // _PAGE + 1):
        query = {"since": "2000-01-01T00:00:00Z", "page": str(page), "per_page": str(_PAGE)}
        async with http.get(url, params=query) as answer:
            body = await answer.read()
        if parsed:
            yield len([orjson.dumps(row) for row in orjson.loads(body)["result"]])
        else:
            yield _PAGE


async def ready(count: int) -> AsyncIterator[int]:
    """Give the numbers of pages that nobody has to fetch."""
    for _ in range(count // _PAGE):
        yield _PAGE


class Lane:
    """Sends a recording over and over, as many events as `carry` asks, several units at once."""

    def __init__(self, kind: str, push: Push, recording: Recording, tasks: TaskGroup) -> None:
        """Send nothing yet."""
        self._push = push
        self._units = cycle(recording.units)
        self._free = Semaphore(IN_FLIGHT[kind])
        self._tasks = tasks
        self._due = 0.0

    async def carry(self, events: int) -> None:
        """Send units until so many events more have gone; waits while too many are under way."""
        self._due += events
        while self._due > 0:
            number, unit = next(self._units)
            self._due -= number
            await self._free.acquire()
            self._tasks.create_task(self._send(unit))

    async def _send(self, unit: Any) -> None:
        try:
            await self._push(unit)
        finally:
            self._free.release()


async def measure(kinds: list[str], count: int, api: int, ports: list[int], folder: Path) -> None:
    """Push every row once to every kind and print what it cost."""
    async with ClientSession() as http, AsyncExitStack() as stack:
        links = [
            (kind, await connect(kind, port, folder, stack))
            for kind, port in zip(kinds, ports, strict=True)
            if kind not in SILENT
        ]
        recordings = [Recording.load(folder / f"{kind}.bytes") for kind, _ in links]
        began, cpu = time.monotonic(), time.process_time()
        source = pages(http, api, count, parsed=kinds != ["api"]) if api else ready(count)
        async with TaskGroup() as tasks:
            lanes = [
                Lane(kind, push, recording, tasks)
                for (kind, push), recording in zip(links, recordings, strict=True)
            ]
            async for events in source:
                for lane in lanes:
                    await lane.carry(events)
        seconds, used = time.monotonic() - began, time.process_time() - cpu
    print(count / seconds, used / count * 1e6)


if __name__ == "__main__":
    kinds, rows, from_api, to, where = sys.argv[1:]
    uvloop.run(
        measure(
            kinds.split(","), int(rows), int(from_api), [int(p) for p in to.split(",")], Path(where)
        )
    )
