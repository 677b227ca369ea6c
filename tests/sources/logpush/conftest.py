"""A receiver on a free port over an intake in memory, and a client that pushes to it."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
from aiohttp import ClientSession, ClientTimeout

from forwarder.core.source_contract import SourceContext
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import SystemClock
from forwarder.sources.logpush.config import LogpushConfig
from forwarder.sources.logpush.receiver import Receiver
from forwarder.testing.source_contract import MemoryIntake
from forwarder.transport.settings import Secret

SECRET = "the-secret-of-the-job"
PATH = "/acme/access_requests"


def row(number: int) -> bytes:
    """Return a login as Logpush writes it."""
    return orjson.dumps(
        {
            "Allowed": number % 2 == 0,
            "CreatedAt": f"2026-11-30T08:00:{number % 60:02d}.{number:09d}Z",
            "Email": f"user{number}@example.com",
            "RayID": f"{number:016x}",
        }
    )


def packed(rows: Sequence[bytes]) -> bytes:
    """Return the body that Logpush sends for some rows."""
    return gzip.compress(b"\n".join(rows) + b"\n", mtime=0)


class SkewedClock(SystemClock):
    """A machine's clock that somebody has set wrong, by some seconds."""

    def __init__(self, ahead: int) -> None:
        self._ahead_us = ahead * 1_000_000

    def now_us(self) -> int:
        return super().now_us() + self._ahead_us


class Sender:
    """Starts a receiver, and pushes to it."""

    def __init__(self, intake: MemoryIntake, *, ahead: int = 0, **settings: Any) -> None:
        self.intake = intake
        self._clock = SkewedClock(ahead)
        self.settings = LogpushConfig(**{"secret": Secret(SECRET), **settings})
        self.events: list[TelemetryEvent] = []
        self.url = ""
        self._receiver: Receiver | None = None

    async def __aenter__(self) -> Self:
        self._http = ClientSession(timeout=ClientTimeout(60), auto_decompress=False)
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        await self._http.close()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def restart(self, tls: ssl.SSLContext | None = None) -> None:
        await self._stop()
        await self._start(tls)

    async def push(self, rows: Sequence[bytes], *, secret: bool = True) -> bool:
        status, _ = await self.post(packed(rows), secret=SECRET if secret else "wrong")
        return status == 200

    async def begin(
        self, *headers: str, body: bytes = b"", tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Begin a push as a client does that does not send the rest by itself."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls)
        head = (f"POST {PATH} HTTP/1.1", "Host: x", f"Authorization: {SECRET}", *headers, "", "")
        writer.write("\r\n".join(head).encode() + body)
        return reader, writer

    async def refused(self, *headers: str, body: bytes = b"") -> bytes:
        """Return the head of an answer that comes although the body never ends."""
        reader, writer = await self.begin(*headers, body=body)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        writer.close()
        return answer

    async def post(
        self,
        body: Any,
        *,
        path: str = PATH,
        secret: str = SECRET,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Return status and text of the answer."""
        given = {"Authorization": secret, "Content-Encoding": "gzip", **(headers or {})}
        # aiohttp warns of large bytes, which it copies at once.
        data = BytesIO(body) if isinstance(body, bytes) else body
        async with self._http.post(self.url + path, data=data, headers=given) as answer:
            return answer.status, (await answer.text()).strip()

    async def ask(self, method: str, path: str) -> tuple[int, str]:
        """Return status and text of the answer to a request that is not a push."""
        async with self._http.request(method, self.url + path) as answer:
            return answer.status, (await answer.text()).strip()

    def row(self, number: int) -> bytes:
        return row(number)

    def said(self, kind: type[TelemetryEvent]) -> list[Any]:
        """Return the events of a kind that were emitted."""
        return [event for event in self.events if isinstance(event, kind)]

    async def _start(self, tls: ssl.SSLContext | None = None) -> None:
        context = SourceContext(clock=self._clock, shared=None, emit=self.events.append)
        self._receiver = Receiver(self.settings, self.intake, context)
        self.url = await self._receiver.start("127.0.0.1", 0, tls)
        self.intake.listen(self.url)

    async def _stop(self) -> None:
        if self._receiver is not None:
            await self._receiver.aclose()


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(MemoryIntake()) as sender:
        yield sender


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    return file
