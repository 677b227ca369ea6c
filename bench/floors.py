"""The same bytes with nothing of ours: ``python -m bench.floors KIND ROWS API DESTINATION FOLDER``.

Reads pages as the daemon would ask for them, parses and writes them with orjson, and hands the
bytes to the bare client: no journal, no identity, no normalising. Prints events a second and CPU
microseconds an event.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from isal import igzip

Push = Callable[[list[bytes]], Awaitable[None]]
_ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"


async def pages(http: ClientSession, api: int, count: int) -> AsyncIterator[list[bytes]]:
    """Give the API's rows as JSON again, page by page."""
    url = f"http://127.0.0.1:{api}/client/v4/accounts/{_ACCOUNT}/access/logs/access_requests"
    for page in range(1, count // 1000 + 1):
        query = {"since": "2000-01-01T00:00:00Z", "page": str(page), "per_page": "1000"}
        async with http.get(url, params=query) as answer:
            yield [orjson.dumps(row) for row in orjson.loads(await answer.read())["result"]]


async def _hec(http: ClientSession, port: int, folder: Path) -> Push:
    del folder

    async def push(events: list[bytes]) -> None:
        body = igzip.compress(b'{"event":' + b'}{"event":'.join(events) + b"}", 1)
        url = f"http://127.0.0.1:{port}/services/collector/event"
        async with http.post(url, data=body, headers={"Content-Encoding": "gzip"}) as answer:
            await answer.read()

    return push


async def _bulk(http: ClientSession, port: int, folder: Path) -> Push:
    del folder

    async def push(events: list[bytes]) -> None:
        body = b'{"create":{}}\n' + b'\n{"create":{}}\n'.join(events) + b"\n"
        url = f"http://127.0.0.1:{port}/_bulk"
        data = igzip.compress(body, 1)
        async with http.post(url, data=data, headers={"Content-Encoding": "gzip"}) as answer:
            orjson.loads(await answer.read())

    return push


async def _kafka(http: ClientSession, port: int, folder: Path) -> Push:
    del http, folder
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{port}", acks="all")
    await producer.start()

    async def push(events: list[bytes]) -> None:
        batch = producer.create_batch()
        pending = []
        for event in events:
            if batch.append(key=None, value=event, timestamp=None) is None:
                pending.append(await producer.send_batch(batch, "access", partition=0))
                batch = producer.create_batch()
                batch.append(key=None, value=event, timestamp=None)
        pending.append(await producer.send_batch(batch, "access", partition=0))
        await asyncio.gather(*pending)

    return push


async def _stream(http: ClientSession, port: int, folder: Path) -> Push:
    del http
    context = None
    if (folder / "tls").exists():
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    _, writer = await asyncio.open_connection(
        "localhost" if context else "127.0.0.1", port, ssl=context
    )

    async def push(events: list[bytes]) -> None:
        writer.write(b"".join(b"%d %b" % (len(event), event) for event in events))
        await writer.drain()

    return push


async def _file(http: ClientSession, port: int, folder: Path) -> Push:
    del http, port
    target = os.open(folder / "floor.ndjson", os.O_WRONLY | os.O_CREAT)

    async def push(events: list[bytes]) -> None:
        os.write(target, b"\n".join(events) + b"\n")
        os.fdatasync(target)

    return push


async def _nothing(http: ClientSession, port: int, folder: Path) -> Push:
    del http, port, folder

    async def push(events: list[bytes]) -> None:
        del events

    return push


_PUSHES = {
    "hec": _hec,
    "bulk": _bulk,
    "kafka": _kafka,
    "tcp": _stream,
    "tls": _stream,
    "relp": _stream,
    "file": _file,
    "stdout": _nothing,
    "null": _nothing,
}


async def measure(kind: str, count: int, api: int, port: int, folder: Path) -> None:
    """Push every row once and print what it cost."""
    async with ClientSession() as http:
        push = await _PUSHES[kind](http, port, folder)
        began, cpu = time.monotonic(), time.process_time()
        async for page in pages(http, api, count):
            await push(page)
        seconds, used = time.monotonic() - began, time.process_time() - cpu
    print(count / seconds, used / count * 1e6, flush=True)
    os._exit(0)


if __name__ == "__main__":
    import uvloop

    uvloop.run(
        measure(
            sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
        )
    )
