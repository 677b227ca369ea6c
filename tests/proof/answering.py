"""Destinations that speak their protocol well, until they say one thing wrong."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import orjson

from tests.proof.mutations import http, misframed, mutated, relp

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_FRAME = re.compile(rb"(\d+) (\w+) (\d+) ?")
_FAILED = {"type": "document_parsing_exception", "reason": "failed", "caused_by": {"type": "x"}}
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


def hec_answer(path: str, body: bytes, rng: Random) -> Any:
    """Return what a collector says."""
    if path.endswith("/health"):
        return {"text": "HEC is healthy", "code": 17}
    if "/ack" in path:
        return {"acks": {str(one): True for one in orjson.loads(body)["acks"]}}
    if rng.random() < 0.2:
        return {"text": "Invalid data format", "code": 6, "invalid-event-number": 1}
    return {"text": "Success", "code": 0, "ackId": rng.randrange(100)}


def bulk_answer(path: str, body: bytes, rng: Random) -> Any:
    """Return what a cluster says."""
    if path.startswith("/_bulk"):
        items = [{"create": {"_index": "logs", "_id": "1", "status": 201}}
                 for _ in range(body.count(b'{"create"'))]  # fmt: skip
        if rng.random() < 0.5:
            items[0]["create"] |= {"status": rng.choice((400, 409, 429)), "error": _FAILED}
        return {
            "took": 3,
            "errors": any("error" in item["create"] for item in items),
            "items": items,
        }
    if path.startswith("/_index_template"):
        inner = {"index_patterns": ["logs-*-*"], "data_stream": {}, "priority": 200}
        return {"index_templates": [{"name": "logs", "index_template": inner}]}
    return {"name": "node", "cluster_name": "c", "version": {"number": "8.15.0"}}


def over_http(answer: Callable[[str, bytes, Random], Any], rng: Random) -> Serve:
    """Answer requests; one answer in three has something wrong in it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            if b"gzip" in head.lower() and body[:2] == b"\x1f\x8b":
                body = gzip.decompress(body)
            path = head.split(b" ")[1].decode()
            missing = path.startswith("/_data_stream") and rng.random() < 0.5
            good = answer(path, body, rng)
            draw = rng.random()
            if draw < 0.67:
                said = http(404 if missing else 200, orjson.dumps(good))
            elif draw < 0.87:
                said = http(rng.choice((200, 200, 400, 503)), mutated(good, rng))
            else:
                said = misframed(orjson.dumps(good), rng)
            writer.write(said)
            await writer.drain()

    return serve


def over_relp(rng: Random) -> Serve:
    """Answer frames; one answer in six has something wrong in it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = b""
        while data := await reader.read(1 << 16):
            rest += data
            while (head := _FRAME.match(rest)) and len(rest) > head.end() + int(head[3]):
                rest = rest[head.end() + int(head[3]) :].lstrip(b"\n")
                opens = head[2] == b"open"
                text = b"200 OK\nrelp_version=0\ncommands=syslog" if opens else b"200 OK"
                good = b"%b rsp %d %b\n" % (head[1], len(text), text)
                wrong = rng.random() < (0.2 if opens else 0.16)
                writer.write(relp(int(head[1]), text, rng) if wrong else good)
            await writer.drain()

    return serve


def over_syslog(rng: Random) -> Serve:
    """Take what comes, and say or do what no syslog receiver says or does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(rng.randrange(1, 4000))
        match rng.randrange(4):
            case 0:
                writer.write(rng.randbytes(rng.randrange(1, 1 << 16)))
                await writer.drain()
            case 1:
                writer.transport.abort()
            case 2:
                writer.write_eof()
            case _:
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    return serve


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[int]:
    """Serve connections on a free port, which is given; all of them have ended afterwards."""
    sessions: set[asyncio.Task[None]] = set()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            sessions.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(session, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if sessions:
            await asyncio.wait(sessions, timeout=1)
        for session_left in sessions:
            session_left.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
