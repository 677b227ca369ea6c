"""The admin server: probes, metrics, status and a page, over HTTP and read-only.

Everybody may see the probes; everything else needs the token, if the settings have one.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from base64 import b64decode, b64encode
from binascii import Error as NotBase64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from typing import Any, Protocol

import orjson
from aiohttp import web

from forwarder.core.errors import NeedsOperatorError
from forwarder.transport.listening import Handler, Listener
from forwarder.transport.settings import Secret


@dataclass(frozen=True, slots=True)
class Verdict:
    """A health check's result, with a sentence for each thing that is wrong."""

    well: bool
    reasons: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Overview(Protocol):
    """The daemon as seen from outside; every method is quick and never raises."""

    def live(self) -> Verdict:
        """Return the verdict of /livez: every task gives signs of life."""
        ...

    def ready(self) -> Verdict:
        """Return the verdict of /readyz: events flow."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """Return the whole state as JSON values."""
        ...

    def history(self) -> Mapping[str, Any]:
        """Return the last hour as JSON values: one list a measure, one entry a moment."""
        ...

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        ...


_SOURCES = files("forwarder.admin") / "status_page"
_SCRIPTS = ("elements.js", "charts.js", "fleet.js", "page.js")


def _read(name: str) -> str:
    return (_SOURCES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_STYLE = _read("style.css")
_SCRIPT = "\n".join(_read(name) for name in _SCRIPTS)

PAGE = _read("index.html").replace("/*STYLE*/", _STYLE).replace("/*SCRIPT*/", _SCRIPT)
"""The document; its script requests ``status`` and ``history`` for everything that changes."""

RUNBOOK = _read("runbook.html").replace("/*STYLE*/", _STYLE)
"""docs/operations.md, which the page links to."""

# Hashes instead of 'unsafe-inline': text from a log that got into the page could not run there.
POLICY = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""The page's Content-Security-Policy: its own style and script, and nothing from elsewhere."""

# A kubelet sends no token.
_OPEN = frozenset({"/livez", "/readyz"})

CHALLENGES = ("Bearer", 'Basic realm="forwarder", charset="UTF-8"')
"""What a 401 offers: programs send a bearer token, browsers ask their user for a password."""


class Access:
    """Decides which requests may be answered; without a token, all of them."""

    def __init__(self, token: Secret | None) -> None:
        """Require ``token``; its file is read again when it changes."""
        self._token = token

    def granted(self, path: str, authorization: str) -> bool:
        """Return True if a request for ``path`` with this header may be answered.

        A browser cannot send a bearer token, so the token is also accepted as the password of any
        user.
        """
        if self._token is None or path in _OPEN:
            return True
        try:
            expected = self._token.reveal()
        except NeedsOperatorError:
            return False  # the token's file is gone: closed is the safe side
        # Compares in constant time, so that response times tell nothing about the token.
        return hmac.compare_digest(_given(authorization), expected.encode())


def _given(authorization: str) -> bytes:
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        # aiohttp decodes headers with surrogateescape; the same way back gives the bytes sent.
        return value.strip().encode(errors="surrogateescape")
    if kind.lower() == "basic":
        try:
            return b64decode(value.strip(), validate=True).partition(b":")[2]
        except (NotBase64Error, ValueError):
            return b""
    return b""


_LONGEST = 20.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class AdminServer:
    """Listens on one address and answers GET and HEAD only."""

    def __init__(
        self,
        overview: Overview,
        *,
        token: Secret | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Serve ``overview``, over HTTPS with ``tls``; a ``token`` guards all but the probes."""
        self._overview = overview
        self._access = Access(token)
        self._tls = tls
        app = web.Application(middlewares=[self._outermost])
        app.add_routes(self._routes())
        self._listener = Listener("admin", app, keepalive_timeout=15.0)

    async def start(self, host: str, port: int) -> str:
        """Listen and return the base URL; port 0 takes a free port.

        Raises ``ConfigError`` if the address cannot be used.
        """
        return await self._listener.start(host, port, self._tls)

    async def aclose(self) -> None:
        """Stop listening and close what is open; idempotent."""
        await self._listener.aclose()

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page),
            web.get("/runbook", self._runbook),
            web.get("/livez", self._live),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
            web.get("/status", self._status),
            web.get("/history", self._history),
        ]

    @web.middleware
    async def _outermost(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Require the token, bound the time, add the headers."""
        try:
            if not self._access.granted(request.path, request.headers.get("Authorization", "")):
                raise _unauthorized()
            # The journal may be busy with an append of a large page, or stuck on a dead disk.
            async with asyncio.timeout(_LONGEST):
                response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)  # aiohttp's own 404 and 405 come as exceptions
            raise
        except TimeoutError:
            response = web.Response(status=503, text="the state could not be read in time\n")
        response.headers.update(_HEADERS)
        return response

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _runbook(self, _: web.Request) -> web.Response:
        return web.Response(text=RUNBOOK, content_type="text/html")

    async def _live(self, _: web.Request) -> web.Response:
        return _verdict(self._overview.live())

    async def _ready(self, _: web.Request) -> web.Response:
        return _verdict(self._overview.ready())

    async def _status(self, _: web.Request) -> web.Response:
        return as_json(await self._overview.status())

    async def _history(self, _: web.Request) -> web.Response:
        return as_json(self._overview.history())

    async def _metrics(self, _: web.Request) -> web.Response:
        text = await self._overview.metrics()
        return web.Response(
            body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


def as_json(content: Any, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    body = orjson.dumps(content, default=str, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type="application/json")


def _unauthorized() -> web.HTTPUnauthorized:
    error = web.HTTPUnauthorized()
    for challenge in CHALLENGES:
        error.headers.add("WWW-Authenticate", challenge)
    return error


def _verdict(verdict: Verdict) -> web.Response:
    content = {"ok": verdict.well, "reasons": verdict.reasons, **verdict.details}
    return as_json(content, 200 if verdict.well else 503)
