"""Probes answer by status code, the rest needs a token if one is set, nothing can be changed."""

from __future__ import annotations

import asyncio
import re
from functools import partial

import pytest
from aiohttp import ClientSession

from forwarder.admin.server import AdminServer, Verdict
from forwarder.core.errors import ConfigError
from forwarder.transport.listening import MOST_CONNECTIONS, Guard
from forwarder.transport.settings import Secret
from tests.admin.conftest import FakeDaemon


async def test_a_live_and_ready_daemon_answers_200(http: ClientSession, url: str) -> None:
    for path in ("/livez", "/readyz"):
        async with http.get(url + path) as answer:
            assert answer.status == 200
            assert await answer.json() == {"ok": True, "reasons": []}


async def test_readiness_says_why_not(http: ClientSession, url: str, daemon: FakeDaemon) -> None:
    daemon.readiness = Verdict(well=False, reasons=("sink splunk is held: token",))

    async with http.get(url + "/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["reasons"] == ["sink splunk is held: token"]


async def test_status_is_json_and_metrics_are_text(http: ClientSession, url: str) -> None:
    async with http.get(url + "/status") as answer:
        assert await answer.json() == {"ready": True}
    async with http.get(url + "/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert await answer.text() == "forwarder_ready 1.0\n"


async def test_the_page_runs_only_its_own_script(http: ClientSession, url: str) -> None:
    async with http.get(url + "/") as answer:
        policy = answer.headers["Content-Security-Policy"]
        page = await answer.text()

    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert re.findall(r"https?://\S+", page) == ['http://www.w3.org/2000/svg";']
    assert re.findall(r"\ssrc=|url\(|@import", page) == []


async def test_the_runbook_has_every_heading_that_the_page_and_its_own_links_name(
    http: ClientSession, url: str
) -> None:
    async with http.get(url + "/") as answer:
        page = await answer.text()
    async with http.get(url + "/runbook") as answer:
        runbook = await answer.text()
    anchors = set(re.findall(r'<h\d id="([^"]+)"', runbook))
    named = set(re.findall(r'"(forwarder[a-z]+)"', page))

    assert len(named) == 7
    assert named <= anchors
    assert set(re.findall(r'href="#([^"]+)"', runbook)) <= anchors


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(http: ClientSession, url: str, method: str) -> None:
    for path in ("/", "/status", "/metrics", "/readyz"):
        async with http.request(method, url + path) as answer:
            assert answer.status == 405


@pytest.mark.parametrize("path", ["/etc/passwd", "/../etc/passwd", "/%2e%2e/x", "/status/x"])
async def test_other_paths_are_not_found(http: ClientSession, url: str, path: str) -> None:
    async with http.get(url + path) as answer:
        assert answer.status == 404
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_token_guards_all_but_the_probes(http: ClientSession) -> None:
    server = AdminServer(FakeDaemon(), token=Secret("s3cret-token"))
    url = await server.start("127.0.0.1", 0)
    right, wrong = ({"Authorization": f"Bearer {word}"} for word in ("s3cret-token", "guess"))
    try:
        statuses = [
            (await http.get(url + path, headers=headers)).status
            for path in ("/status", "/metrics", "/")
            for headers in ({}, wrong, right)
        ]
        probes = [(await http.get(url + path)).status for path in ("/livez", "/readyz")]
    finally:
        await server.aclose()

    assert statuses == [401, 401, 200] * 3
    assert probes == [200, 200]


async def test_an_address_in_use_is_a_fault_of_the_settings(url: str) -> None:
    port = int(url.rpartition(":")[2])

    said = f"admin.listen: 127.0.0.1:{port} cannot be listened on: Address already in use"
    with pytest.raises(ConfigError, match=said):
        await AdminServer(FakeDaemon()).start("127.0.0.1", port)


async def test_a_large_header_is_refused(url: str) -> None:
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()

    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))


class Retrier:
    """A guard with short patience in front of a bare server of aiohttp's."""

    def __init__(self, patience: float) -> None:
        self.patience = patience

    async def __aenter__(self) -> int:
        from aiohttp import web  # noqa: PLC0415 - only these two tests need it

        async def handle(_: web.BaseRequest) -> web.Response:
            return web.Response()

        guard = partial(Guard(patience=self.patience).connect, web.Server(handle))
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(guard, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self.server.close()


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with Retrier(0.1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTT")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_beyond_the_limit_the_oldest_idle_connection_is_closed() -> None:
    async with Retrier(30) as port:
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 60)
        first = await asyncio.wait_for(pairs[0][0].read(), 60)
        others = [reader.at_eof() for reader, _ in pairs[1:]]
        for _, open_writer in [*pairs, (reader, writer)]:
            open_writer.close()

    assert answer.startswith(b"HTTP/1.1 200")
    assert first == b""
    assert not any(others)


async def test_a_request_may_take_longer_than_silence_may() -> None:
    from aiohttp import web  # noqa: PLC0415 - only here

    async def handle(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response()

    async def marked(request: web.BaseRequest) -> web.StreamResponse:
        return await guard.middleware(request, handle)  # type: ignore[arg-type]

    guard = Guard(patience=0.1)
    protocol = partial(guard.connect, web.Server(marked))
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    server.close()

    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_connection_beyond_the_limit_is_closed_while_all_are_answered() -> None:
    from aiohttp import web  # noqa: PLC0415 - only here

    released = asyncio.Event()

    async def handle(_: web.BaseRequest) -> web.Response:
        await released.wait()
        return web.Response()

    async def marked(request: web.BaseRequest) -> web.StreamResponse:
        return await guard.middleware(request, handle)  # type: ignore[arg-type]

    guard = Guard(most=2)
    protocol = partial(guard.connect, web.Server(marked))
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    place = server.sockets[0].getsockname()[:2]
    pairs = [await asyncio.open_connection(*place) for _ in range(2)]
    for _, writer in pairs:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await asyncio.sleep(0.1)
    reader, writer = await asyncio.open_connection(*place)
    refused = await asyncio.wait_for(reader.read(), 60)
    released.set()
    answers = [await asyncio.wait_for(one.read(), 60) for one, _ in pairs]
    for _, open_writer in [*pairs, (reader, writer)]:
        open_writer.close()
    server.close()

    assert refused == b""
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
