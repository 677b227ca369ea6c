"""An HTTP server for tests of sinks that can fail, hang, be killed and come back at its address.

Subclass it, say how your destination answers, and give it to the contract suites::

    class Receiver(FakeServer):
        secrets = ("token",)

        def __init__(self) -> None:
            super().__init__()
            self.ids: list[str] = []

        def sink(self) -> MySink:
            return MySink(MyConfig(url=self.url, bearer_token=Secret("token")), sink_context())

        def arrived(self) -> Counter[str]:
            return Counter(self.ids)

        async def answer(self, request: web.Request) -> web.StreamResponse:
            if self.locked:
                return web.Response(status=401)
            self.ids += [orjson.loads(line)["id"] for line in (await body_of(request)).splitlines()]
            return web.Response()

To let one request fail in a certain way, append a script: ``server.script.append(reset)``.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import deque
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import Self, TypeAlias

from aiohttp import web

from forwarder.testing.network import free_port

Script: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""What one delivery gets instead of the fake's own answer; None lets the request through."""


class FakeServer:
    """Serves ``answer`` on 127.0.0.1; a subclass defines what that is.

    ``script`` holds what the next deliveries get, ``deliveries`` counts them, ``locked`` is true
    between ``lock_out`` and ``come_back``. Use it as an asynchronous context manager.
    """

    def __init__(self, *, tls: SSLContext | None = None, port: int | None = None) -> None:
        """Listen to nothing yet; ``tls`` serves https, ``port`` is a free one unless given."""
        self.script: deque[Script] = deque()
        self.deliveries = 0
        self.breaking = False
        self.hanging = False
        self.locked = False
        self._tls = tls
        self._port = free_port() if port is None else port
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()
        self._counted = asyncio.Condition()

    @property
    def url(self) -> str:
        """Return the base URL, the same after a restart."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as the real destination does."""
        raise NotImplementedError

    def delivers(self, request: web.Request) -> bool:
        """Return True if the request brings events; probes and log-ins do not count."""
        return request.method == "POST"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        delivers = self.delivers(request)
        await self._count(delivers=delivers)
        # Counted before: an attempt that fails is an attempt.
        if self.breaking:
            return _broken(request)
        if self.hanging:
            await self._released.wait()
            return _broken(request)
        # Only deliveries use up the script; probes are answered as the destination does.
        if delivers and self.script:
            scripted = await self.script.popleft()(request)
            if scripted is not None:
                return scripted
        return await self.answer(request)

    async def _count(self, *, delivers: bool) -> None:
        async with self._counted:
            self.deliveries += delivers
            self._counted.notify_all()

    async def delivered(self, times: int) -> None:
        """Wait until there were ``times`` attempts to deliver."""
        async with self._counted:
            await self._counted.wait_for(lambda: self.deliveries >= times)

    async def start(self) -> None:
        """Listen, after a ``kill`` at the same port as before."""
        # aiohttp refuses bodies beyond 1 MiB by default, and batches are larger.
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Bodies are left compressed, so that a fake can check what really travelled.
        # Without shutdown_timeout=0 a kill would wait a minute for the requests that are open.
        self._runner = web.AppRunner(
            app, shutdown_timeout=0, access_log=None, auto_decompress=False
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls).start()

    async def kill(self) -> None:
        """Stop listening and drop every connection."""
        self._release()
        # Requests that hang were released above: cleaning up waits for them.
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def go_down(self) -> None:
        """Reset every connection in place of an answer."""
        self.breaking = True

    async def hang(self) -> None:
        """Take requests and answer none of them."""
        self.hanging = True

    async def lock_out(self) -> None:
        """Set ``locked``; ``answer`` refuses everybody while it is true."""
        self.locked = True

    async def come_back(self) -> None:
        """Be healthy again."""
        self.breaking = self.hanging = self.locked = False
        self._release()

    def _release(self) -> None:
        # A new event for those who hang later; the old one stays set for those who wait.
        self._released.set()
        self._released = asyncio.Event()

    def requests(self) -> int:
        """Return the number of attempts to deliver."""
        return self.deliveries

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.kill()


async def body_of(request: web.Request) -> bytes:
    """Return the body, decompressed; raises ``OSError`` if it claims to be gzip and is not."""
    body = await request.read()
    return gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body


def _broken(request: web.Request) -> web.StreamResponse:
    """Reset the connection in place of an answer."""
    if request.transport is not None:
        request.transport.abort()
    # Nobody gets this: aiohttp asks every handler for an answer.
    return web.Response(status=500)


def saying(status: int, text: str = "", **headers: str) -> Script:
    """Return a script that answers with this and stores nothing."""

    async def script(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, text=text, headers=headers)

    return script


def html(status: int) -> Script:
    """Return a script that answers with a load balancer's page."""
    return saying(status, "<html><body>Sorry</body></html>", **{"Content-Type": "text/html"})


async def reset(request: web.Request) -> web.StreamResponse:
    """Read the request and reset the connection."""
    await request.read()
    return _broken(request)


async def reset_early(request: web.Request) -> web.StreamResponse:
    """Reset the connection before the body is read."""
    return _broken(request)


async def half_an_answer(request: web.Request) -> web.StreamResponse:
    """Announce a body and close the connection in the middle of it."""
    await request.read()
    # More than what is sent: the client must notice that the answer is cut.
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b"{")
    if request.transport is not None:
        request.transport.close()
    return answer


async def silence(request: web.Request) -> web.StreamResponse:
    """Send no answer for two seconds, longer than a test's client waits."""
    await request.read()
    await asyncio.sleep(2)
    # A success although nothing is stored: who waits for it has lost the events.
    return web.Response()


async def through(_: web.Request) -> web.StreamResponse | None:
    """Let the request through."""
    return None
