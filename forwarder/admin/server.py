"""HTTP for operators and probes: /livez /readyz /metrics /status and a page. Read-only."""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

import orjson
from aiohttp import web

from forwarder.admin.contract import Overview, Verdict
from forwarder.admin.guard import Guard, Handler
from forwarder.admin.page import PAGE, POLICY
from forwarder.core.errors import ConfigError, Fault, NeedsOperatorError
from forwarder.transport.secrets import Secret

_OPEN = frozenset({"/livez", "/readyz"})
_LONGEST = 20.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class AdminServer:
    """Listens on one address; loopback unless the settings say otherwise."""

    def __init__(self, overview: Overview, *, token: Secret | None = None) -> None:
        """Show ``overview``; with a ``token``, everything but the probes demands it."""
        self._overview = overview
        self._token = token
        self._server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen and return the base URL; port 0 takes a free one.

        Raises ``ConfigError`` when the address cannot be used.
        """
        app = web.Application(middlewares=[self._outermost])
        app.add_routes(self._routes())
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=15.0, shutdown_timeout=1.0)
        await runner.setup()
        self._runner = runner
        server: Any = runner.server
        self._guard = Guard(server)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._guard, host, port, backlog=64)
        except OSError as error:
            await self.aclose()
            problem = f"{host}:{port} cannot be listened on: {error.strerror or error}"
            fault = Fault("admin.listen", problem, "choose another port, or 0 for a free one")
            raise ConfigError([fault]) from error
        bound = self._server.sockets[0].getsockname()
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"http://{name}:{bound[1]}"

    async def aclose(self) -> None:
        """Stop listening and close what is open; idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page),
            web.get("/livez", self._live),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
            web.get("/status", self._status),
        ]

    @web.middleware
    async def _outermost(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count the connection as busy, demand the token, bound the time, add the headers."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self._may_see(request):
                raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
            async with asyncio.timeout(_LONGEST):
                return await handler(request)

        try:
            response = await self._guard.middleware(request, guarded)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
        except TimeoutError:
            response = web.Response(status=503, text="the state could not be read in time\n")
        response.headers.update(_HEADERS)
        return response

    def _may_see(self, request: web.Request) -> bool:
        if self._token is None or request.path in _OPEN:
            return True
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            expected = self._token.reveal()
        except NeedsOperatorError:
            return False
        return kind.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), expected.encode()
        )

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _live(self, _: web.Request) -> web.Response:
        return _verdict(self._overview.live())

    async def _ready(self, _: web.Request) -> web.Response:
        return _verdict(self._overview.ready())

    async def _status(self, _: web.Request) -> web.Response:
        return as_json(await self._overview.status())

    async def _metrics(self, _: web.Request) -> web.Response:
        text = await self._overview.metrics()
        return web.Response(
            body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


def as_json(content: Any, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    body = orjson.dumps(content, default=str, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type="application/json")


def _verdict(verdict: Verdict) -> web.Response:
    content = {"ok": verdict.well, "reasons": verdict.reasons, **verdict.details}
    return as_json(content, 200 if verdict.well else 503)
