"""Bare clients: orjson, gzip, aiohttp, aiokafka and sockets, used as well as we know how."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import cramjam
import orjson
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from isal import igzip

Push = Callable[[Any], Awaitable[None]]
"""Sends one unit of a recording; returns when it is acknowledged, or given to the kernel."""

SILENT = {"api", "null", "journal"}
"""Kinds whose bare client sends nothing: they end with the fetched page."""

IN_FLIGHT = {"hec": 8, "bulk": 4, "kafka": 4, "tcp": 1, "tls": 1, "relp": 4, "file": 1, "stdout": 1}
IN_FLIGHT |= {"lake": 1, "lake-parquet": 1, "otlp": 4, "sentinel": 4}
"""Units under way at once: what the daemon does by default."""


_PATHS = {
    "hec": "/services/collector/event",
    "bulk": "/_bulk",
    "otlp": "/v1/logs",
    "sentinel": "/dataCollectionRules/dcr-0/streams/bench",
}


async def connect(kind: str, port: int, folder: Path, stack: AsyncExitStack) -> Push:
    """Return the bare client of a kind; files and certificates lie in ``folder``.

    ``stack`` closes what it has opened.
    """
    if kind in _PATHS:
        http = await stack.enter_async_context(ClientSession())
        return _poster(http, f"http://127.0.0.1:{port}{_PATHS[kind]}")
    if kind in {"lake", "lake-parquet"}:
        http = await stack.enter_async_context(ClientSession())
        return _putter(http, f"http://127.0.0.1:{port}/bench/object", packed=kind == "lake")
    if kind in {"tcp", "tls"}:
        return await _stream(port, folder / "ca.pem" if kind == "tls" else None, stack)
    if kind in {"kafka", "relp"}:
        return await (_producer if kind == "kafka" else _relp)(port, stack)
    path = folder / "floor.ndjson" if kind == "file" else Path(os.devnull)
    target = os.open(path, os.O_WRONLY | os.O_CREAT)
    stack.callback(os.close, target)
    return _appender(target, sync=kind == "file")


def _poster(http: ClientSession, url: str) -> Push:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}

    async def push(body: bytes) -> None:
        async with http.post(url, data=igzip.compress(body, 1), headers=headers) as answer:
            orjson.loads(await answer.read() or b"null")

    return push


def _putter(http: ClientSession, url: str, *, packed: bool) -> Push:
    async def push(body: bytes) -> None:
        data = bytes(cramjam.gzip.compress(body, level=4)) if packed else body
        async with http.put(url, data=data) as answer:
            await answer.read()

    return push


async def _producer(port: int, stack: AsyncExitStack) -> Push:
    producer = AIOKafkaProducer(
        bootstrap_servers=f"127.0.0.1:{port}",
        acks="all",
        compression_type="zstd",
        max_batch_size=4_000_000,
    )
    await producer.start()
    stack.push_async_callback(producer.stop)

    async def push(records: list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]) -> None:
        batch, sent = producer.create_batch(), []
        for key, value, headers in records:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                sent.append(await producer.send_batch(batch, "floor", partition=0))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        sent.append(await producer.send_batch(batch, "floor", partition=0))
        await asyncio.gather(*sent)

    return push


async def _stream(port: int, authority: Path | None, stack: AsyncExitStack) -> Push:
    context = ssl.create_default_context(cafile=str(authority)) if authority else None
    host = "localhost" if authority else "127.0.0.1"
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    stack.push_async_callback(writer.wait_closed)
    stack.callback(writer.close)

    async def push(piece: bytes) -> None:
        writer.write(piece)
        await writer.drain()

    return push


async def _relp(port: int, stack: AsyncExitStack) -> Push:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.push_async_callback(writer.wait_closed)
    stack.callback(writer.close)
    offer = b"relp_version=0\ncommands=syslog"
    writer.write(b"1 open %d %b\n" % (len(offer), offer))
    while b"syslog\n" not in await reader.read(4096):
        pass
    numbers, answered = count(2), asyncio.Condition()
    done = 0

    async def listen() -> None:
        nonlocal done
        while piece := await reader.read(1 << 16):
            async with answered:
                done += piece.count(b"\n")
                answered.notify_all()

    listening = asyncio.create_task(listen())
    stack.callback(listening.cancel)
    sent = 0

    async def push(messages: list[bytes]) -> None:
        nonlocal sent
        frames = [b"%d syslog %d %b\n" % (next(numbers), len(text), text) for text in messages]
        sent += len(frames)
        last = sent
        writer.write(b"".join(frames))
        async with answered:
            await answered.wait_for(lambda: done >= last or listening.done())

    return push


def _appender(target: int, *, sync: bool) -> Push:
    async def push(piece: bytes) -> None:
        os.write(target, piece)
        if sync:
            os.fdatasync(target)

    return push
