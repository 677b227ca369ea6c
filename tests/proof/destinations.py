"""Destinations that keep ids and digests only, and call out before they answer."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from ssl import SSLContext
from typing import Any, Self

import orjson
from aiohttp import web

from tests.proof.books import Book
from tests.sinks.fakes.elastic import FakeElastic, error_item
from tests.sinks.fakes.hec import FakeHec, say
from tests.sinks.fakes_stream.relp_receiver import RelpReceiver

OnBatch = Callable[[], None]
_UNFIT = 61


def nothing() -> None:
    """Do nothing before an answer."""


class HecBook(FakeHec):
    """A collector; ``on_batch`` is called when a batch is kept and not yet answered."""

    def __init__(self, *, tls: SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls
        self.book = Book()
        self.keep_bodies = False
        self.on_batch: OnBatch = nothing
        self.refusal: int | None = None
        self.refusals = 0
        self.forgets = 0

    def refuse(self, code: int) -> None:
        """Answer with this code from now on."""
        self.refusal, self.on_batch = code, nothing

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.refusal is None:
            return await super().answer(request)
        self.refusals += 1
        await request.read()
        return say(self.refusal)

    def _take_events(self, body: bytes, channel: str | None) -> web.StreamResponse:
        self.headers.clear()
        if self.forgets:
            self.forgets -= 1
            return say(0, self._ack_id(channel))
        for line in body.splitlines():
            self.book.note(orjson.loads(line)["event"])
        self.on_batch()
        return say(0, self._ack_id(channel))


class BulkBook(FakeElastic):
    """A cluster that deduplicates by ``_id`` and refuses one document in 61 for ever."""

    def __init__(self, *, unfit: bool = True) -> None:
        super().__init__()
        self.book = Book()
        self.refused: set[str] = set()
        self.deduplicated = 0
        self.on_batch: OnBatch = nothing
        self._unfit = unfit

    def _item(self, action: bytes, source: bytes) -> dict[str, Any]:
        self.headers.clear()
        meta, document = orjson.loads(action)["create"], orjson.loads(source)
        name, identity = meta["_index"], meta["_id"]
        if self._unfit and int(identity[:8], 16) % _UNFIT == 0 and _is_row(document):
            self.refused.add(identity)
            return error_item(name, identity, 400, "document_parsing_exception", "does not fit")
        if identity in self.book.arrived:
            self.deduplicated += 1
            kind = "version_conflict_engine_exception"
            return error_item(name, identity, 409, kind, f"[{identity}]: document already exists")
        self.book.note({key: value for key, value in document.items() if key != "@timestamp"})
        return {"_index": name, "_id": identity, "status": 201, "result": "created"}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        answered = await super().answer(request)
        if request.path == "/_bulk":
            self.on_batch()
        return answered


def _is_row(document: dict[str, Any]) -> bool:
    return str(document.get("_forwarder", {}).get("stream")) != "forwarder"


class RelpBook(RelpReceiver):
    """A RELP receiver."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()

    def _answer(self, command: bytes, data: bytes) -> bytes:
        if command != b"syslog":
            return super()._answer(command, data)
        self.book.note(_message(data))
        return b"200 OK"


class SyslogBook:
    """A syslog receiver over TCP with octet counting."""

    def __init__(self) -> None:
        self.book = Book()
        self.port = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        if session is not None:
            self._sessions.add(session)
            session.add_done_callback(self._sessions.discard)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await self.reading.wait()
                length = int(await reader.readuntil(b" "))
                self.book.note(_message(await reader.readexactly(length)))
        writer.close()


class FileBook:
    """The lines of the files of a folder that match a pattern, read when asked."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder = folder
        self._pattern = pattern
        self.torn = 0

    @property
    def book(self) -> Book:
        """Return what is in the files now; a line that a kill has cut is no event."""
        book, self.torn = Book(), 0
        for file in sorted(self._folder.glob(self._pattern)):
            data = file.read_bytes()
            if file.suffix == ".gz":
                data = gzip.decompress(data)
            for line in data.splitlines():
                try:
                    event = orjson.loads(line)
                except orjson.JSONDecodeError:
                    self.torn += 1
                    continue
                book.note(event)
        return book


def _message(data: bytes) -> Any:
    """Return the JSON object that a syslog message ends with."""
    return orjson.loads(data[data.index(b"{") :])
