"""Who may use the admin server.

Who may see what: probes everybody, all else who has the token. Pure but for the token's file.

Connections that send nothing, or too slowly, are closed; there are never too many of them.
"""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64decode
from binascii import Error as NotBase64Error
from collections.abc import Awaitable, Callable

from aiohttp import web

from forwarder.core.errors import NeedsOperatorError
from forwarder.transport.settings import Secret

_OPEN = frozenset({"/livez", "/readyz"})

CHALLENGES = ("Bearer", 'Basic realm="forwarder", charset="UTF-8"')
"""What a refusal offers: programs send a bearer token, browsers ask for a password."""


class Access:
    """Judges requests; without a token everybody may see everything."""

    def __init__(self, token: Secret | None) -> None:
        """Demand ``token``; its file is read anew when it changes."""
        self._token = token

    def granted(self, path: str, authorization: str) -> bool:
        """Tell whether a request for ``path`` with this header may be answered.

        A browser cannot send a bearer token, so the token is also taken as the password of any
        user.
        """
        if self._token is None or path in _OPEN:
            return True
        try:
            expected = self._token.reveal()
        except NeedsOperatorError:
            return False
        return hmac.compare_digest(_given(authorization), expected.encode())


def _given(authorization: str) -> bytes:
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode(errors="surrogateescape")
    if kind.lower() == "basic":
        try:
            return b64decode(value.strip(), validate=True).partition(b":")[2]
        except (NotBase64Error, ValueError):
            return b""
    return b""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MOST_CONNECTIONS = 100
_PATIENCE = 10.0


class Guard:
    """A protocol factory around aiohttp's own, and the middleware that notes activity."""

    def __init__(self, server: web.Server, *, patience: float = _PATIENCE) -> None:
        """Give each connection ``patience`` seconds to send a request."""
        self._server = server
        self._patience = patience
        self._busy: set[asyncio.Protocol] = set()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection; called by the event loop."""
        protocol = self._server()
        too_many = len(self._server.connections) >= MOST_CONNECTIONS
        delay = 0.0 if too_many else self._patience
        asyncio.get_running_loop().call_later(delay, self._look, protocol)
        return protocol

    def _look(self, protocol: web.RequestHandler) -> None:
        """Close a connection without a request under way; idle ones may connect again."""
        if protocol in self._busy:
            asyncio.get_running_loop().call_later(self._patience, self._look, protocol)
        elif protocol.transport is not None:
            protocol.force_close()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that the connection has a request under way."""
        self._busy.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._busy.discard(request.protocol)
