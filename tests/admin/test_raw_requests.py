"""Whatever is written to the socket: an answer in order or a closed connection, and it lives on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.admin.server import AdminServer
from forwarder.transport.listening import Guard
from tests.admin.conftest import FakeDaemon

HEAD = b"Host: x\r\nConnection: close\r\n\r\n"


async def said_to(url: str, request: bytes, *, last: bool = False) -> bytes:
    """Return all that comes back for some bytes until the server closes.

    ``last`` says that nothing more will be sent.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    with suppress(ConnectionError):
        writer.write(request)
        await writer.drain()
        if last:
            writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2fetc/passwd",
        "/status/../../etc/passwd",
        "//etc/passwd",
        "/%00",
        "/status%00.json",
        "/./nowhere",
        "/static/style.css",
        "/page.js",
        "/%F0%9F%92%A9",
        "/" + "a" * 7_000,
        "http://127.0.0.1/nowhere",
    ],
)
async def test_no_path_leads_to_a_file(url: str, path: str) -> None:
    answer = await said_to(url, f"GET {path} HTTP/1.1\r\n".encode() + HEAD)

    assert status_of(answer) == 404
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET",
        b"GET /status HTTP/9.9",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1",
        b"GET /status HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        b"GET /status HTTP/1.1\r\nContent-Length: -1",
        b"GET /status HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2",
        b"GET /status HTTP/1.1\r\nA" + b"\x00: b",
    ],
)
async def test_what_is_no_http_is_refused(url: str, request_line: bytes) -> None:
    answer = await said_to(url, request_line + b"\r\n" + HEAD, last=True)

    assert answer == b"" or status_of(answer) == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "TRACE", "CONNECT", "OPTIONS", "PROPFIND"])
async def test_a_body_is_refused_before_it_is_read(url: str, method: str) -> None:
    head = f"{method} /status HTTP/1.1\r\nContent-Length: 100000000000\r\n".encode()
    answer = await said_to(url, head + HEAD + b"x" * 1000, last=True)

    assert answer == b"" or status_of(answer) in {400, 404, 405}


async def test_the_head_of_a_page_has_no_body(url: str) -> None:
    head, _, body = (await said_to(url, b"HEAD /status HTTP/1.1\r\n" + HEAD)).partition(b"\r\n\r\n")

    assert status_of(head) == 200
    assert body == b""


async def test_many_requests_at_once_on_one_connection_are_answered_in_order(url: str) -> None:
    requests = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 50
    answer = await said_to(url, requests + b"GET /livez HTTP/1.1\r\n" + HEAD)

    assert answer.count(b"HTTP/1.1 200") == 51
    assert answer.rstrip().endswith(b'{"ok":true,"reasons":[]}')


@settings(max_examples=50)
@given(noise=st.binary(max_size=300))
def test_no_noise_stops_it(noise: bytes) -> None:
    async def talk() -> int:
        server = AdminServer(FakeDaemon())
        url = await server.start("127.0.0.1", 0)
        await said_to(url, noise + b"\r\n\r\n", last=True)
        async with ClientSession() as http, http.get(url + "/livez") as answer:
            status = answer.status
        await server.aclose()
        return status

    assert asyncio.run(talk()) == 200


async def test_a_client_that_sends_byte_by_byte_is_closed() -> None:
    """Time is for the whole request, so that a trickle holds no connection."""
    from aiohttp import web  # noqa: PLC0415 - only here

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response()

    guard = partial(Guard(patience=0.3).connect, web.Server(handle))
    server = await asyncio.get_running_loop().create_server(guard, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])

    async def trickle() -> None:
        with suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nX: " + b"a" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)

    trickling = asyncio.create_task(trickle())
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 60) == b""
    trickling.cancel()
    writer.close()
    server.close()


async def test_a_client_that_does_not_read_holds_nobody_else_up() -> None:
    server = AdminServer(FakeDaemon(state={"much": "x" * 5_000_000}))
    url = await server.start("127.0.0.1", 0)
    _, deaf = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    deaf.write(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
    await asyncio.sleep(0.1)

    answer = await said_to(url, b"GET /livez HTTP/1.1\r\n" + HEAD)
    deaf.transport.abort()
    await server.aclose()

    assert status_of(answer) == 200


async def test_what_is_no_http_is_one_warning_without_a_traceback(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await said_to(url, b"GET /status HTTP/1.1\r\nContent-Length: -1\r\n" + HEAD, last=True)

    (line,) = [record for record in caplog.records if record.name == "forwarder.admin"]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert line.getMessage() == "127.0.0.1 sent something that is not HTTP (BadHttpMessage)"
