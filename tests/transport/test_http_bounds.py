"""Whatever a server sends without end, the HTTP client gives it up in bounded bytes and memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest
from aiohttp import web

from forwarder.core.errors import TransientError
from forwarder.transport.http import HttpClient, HttpSettings
from tests.transport.conftest import serving

STATUS = b"HTTP/1.1 200 OK\r\n"
CHUNKED = STATUS + b"Transfer-Encoding: chunked\r\n\r\n"
MOST_BYTES = 160 * 2**20
PIECE = 65_536


class Flood:
    """Sends ``begin`` and then pieces without end to everybody; counts what was taken."""

    def __init__(self, begin: bytes, pieces: Iterator[bytes]) -> None:
        self._begin = begin
        self._pieces = pieces
        self.sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client is done and closes
            await reader.readuntil(b"\r\n\r\n")
        writer.write(self._begin)
        try:
            while self.sent < 2 * MOST_BYTES:
                piece = next(self._pieces)
                writer.write(piece)
                await writer.drain()
                self.sent += len(piece)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(flood: Flood) -> AsyncIterator[str]:
    server = await asyncio.start_server(flood.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def repeated(piece: bytes) -> Iterator[bytes]:
    whole = piece * (PIECE // len(piece) + 1)
    while True:
        yield whole


def numbered() -> Iterator[bytes]:
    for number in count():
        yield b"".join(b"x-%d-%d: y\r\n" % (number, field) for field in range(1000))


FLOODS = {
    "interim answers": (b"", repeated(b"HTTP/1.1 103 Early Hints\r\n\r\n")),
    "interim answers with headers": (b"", repeated(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")),
    "one header": (STATUS + b"x: ", repeated(b"y")),
    "one name of a header": (STATUS, repeated(b"y")),
    "headers": (STATUS, numbered()),
    "a reason": (b"HTTP/1.1 200 ", repeated(b"y")),
    "a body": (STATUS + b"\r\n", repeated(b"y")),
    "chunks": (CHUNKED, repeated(b"20\r\n" + b"y" * 32 + b"\r\n")),
    "a chunk extension": (CHUNKED + b"1;", repeated(b"y")),
    "trailers": (CHUNKED + b"0\r\n", numbered()),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_given_up(name: str) -> None:
    flood = Flood(*FLOODS[name])
    async with listening(flood) as url:
        client = HttpClient(HttpSettings(url=url), "forwarder/test")
        with pytest.raises(TransientError) as caught:
            await client.request("POST", f"{url}/secret-path", body=b"row")
        await client.aclose()

    assert "did not answer within" not in str(caught.value)
    assert "secret-path" not in str(caught.value)
    assert flood.sent < MOST_BYTES


async def test_cookies_without_end_are_forgotten() -> None:
    sent: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        sent.append(len(request.cookies))
        answer = web.Response()
        answer.set_cookie(f"node-{len(sent)}", "x")
        return answer

    async with serving(handler) as url:
        client = HttpClient(HttpSettings(url=url), "forwarder/test")
        for _ in range(100):
            await client.request("GET", url)
        await client.aclose()

    assert 10 < max(sent) <= 32


async def test_a_few_interim_answers_are_skipped_on_every_request() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5 + STATUS + b"Content-Length: 2\r\n\r\nok"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            with suppress(asyncio.IncompleteReadError):  # the client is done and closes
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = HttpClient(HttpSettings(url=url), "forwarder/test")
        bodies = [(await client.request("GET", url)).body for _ in range(6)]
        await client.aclose()

    assert bodies == [b"ok"] * 6
