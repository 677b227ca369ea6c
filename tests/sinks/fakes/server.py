"""An HTTP server of one process that can fail, hang, be killed and come back at its address."""

from __future__ import annotations

import asyncio
import gzip
from collections import deque
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from types import TracebackType
from typing import Self, TypeAlias

from aiohttp import web

from tests.ports import free_port

Script: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""What one delivery meets instead of the fake's own answer; None lets it through."""


class FakeServer:
    """Serves ``answer`` on 127.0.0.1; subclasses say what that is.

    ``script`` holds what the next deliveries meet, ``deliveries`` counts them.
    """

    def __init__(self, *, tls: SSLContext | None = None) -> None:
        self.script: deque[Script] = deque()
        self.deliveries = 0
        self.breaking = False
        self.hanging = False
        self._tls = tls
        self._port = free_port()
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()
        self._counted = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as the real thing does."""
        raise NotImplementedError

    def delivers(self, request: web.Request) -> bool:
        """Say whether the request brings events, and is none of those around them."""
        return request.method == "POST"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        delivers = self.delivers(request)
        await self._count(delivers=delivers)
        if self.breaking:
            return _broken(request)
        if self.hanging:
            await self._released.wait()
            return _broken(request)
        if delivers and self.script:
            met = await self.script.popleft()(request)
            if met is not None:
                return met
        return await self.answer(request)

    async def _count(self, *, delivers: bool) -> None:
        async with self._counted:
            self.deliveries += delivers
            self._counted.notify_all()

    async def delivered(self, times: int) -> None:
        """Wait until something tried to deliver so many times."""
        async with self._counted:
            await self._counted.wait_for(lambda: self.deliveries >= times)

    async def start(self) -> None:
        """Listen, at the same port as before if there was one."""
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, shutdown_timeout=0, access_log=None, auto_decompress=False
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls).start()

    async def kill(self) -> None:
        """Stop listening and drop every connection."""
        self._released.set()
        self._released = asyncio.Event()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def go_down(self) -> None:
        self.breaking = True

    async def hang(self) -> None:
        self.hanging = True

    async def come_back(self) -> None:
        self.breaking = self.hanging = False
        self._released.set()
        self._released = asyncio.Event()

    def requests(self) -> int:
        return self.deliveries

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()


async def body_of(request: web.Request) -> bytes:
    """Return the body, decompressed; raises ``OSError`` for what is no gzip stream."""
    body = await request.read()
    return gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body


def _broken(request: web.Request) -> web.StreamResponse:
    """Reset the connection in place of an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def saying(status: int, text: str = "", **headers: str) -> Script:
    """Answer with this and take nothing."""

    async def script(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, text=text, headers=headers)

    return script


def html(status: int) -> Script:
    """Answer with a balancer's page."""
    return saying(status, "<html><body>Sorry</body></html>", **{"Content-Type": "text/html"})


async def reset(request: web.Request) -> web.StreamResponse:
    """Read the request and reset the connection."""
    await request.read()
    return _broken(request)


async def reset_early(request: web.Request) -> web.StreamResponse:
    """Reset the connection before the body is read."""
    return _broken(request)


async def half_an_answer(request: web.Request) -> web.StreamResponse:
    """Announce a body and close in the middle of it."""
    await request.read()
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b"{")
    if request.transport is not None:
        request.transport.close()
    return answer


async def silence(request: web.Request) -> web.StreamResponse:
    """Answer nothing until the client goes away."""
    await request.read()
    await asyncio.sleep(2)
    return web.Response()


async def through(_: web.Request) -> web.StreamResponse | None:
    """Let the request through."""
    return None
