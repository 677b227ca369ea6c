"""Connections that send nothing, or too slowly, are closed; there are never too many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

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
