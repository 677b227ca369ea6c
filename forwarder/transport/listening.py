"""An HTTP server on one address that slow, silent and garbled clients cannot block.

The admin server and the receiver of pushes are built on it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from forwarder.core.errors import ConfigError, Fault, NeedsOperatorError, system_reason
from forwarder.core.telemetry import Emit, ignore
from forwarder.transport.settings import ServerTlsSettings, TlsSettings
from forwarder.transport.tls import ServerTls

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MOST_CONNECTIONS = 100
_PATIENCE = 10.0


class Guard:
    """Closes connections that send nothing or too slowly, and keeps their number bounded.

    aiohttp bounds the time between requests (keep-alive), but not the time to send one. So the
    guard stands in as the protocol factory, and as a middleware it notes who is being answered.
    """

    def __init__(self, *, most: int = MOST_CONNECTIONS, patience: float = _PATIENCE) -> None:
        """Allow ``most`` connections, and give each ``patience`` seconds to send a request."""
        self._most = most
        self._patience = patience
        self._busy: set[asyncio.Protocol] = set()

    def connect(self, server: web.Server) -> asyncio.Protocol:
        """Return the protocol of a new connection to ``server``; called by the event loop."""
        protocol = server()
        delay = self._patience if self._has_room(server) else 0.0
        # One beyond the limit is closed a turn later: the loop needs a protocol to connect first.
        asyncio.get_running_loop().call_later(delay, self._check, protocol)
        return protocol

    def _has_room(self, server: web.Server) -> bool:
        """Make room for one connection more, if need be; False if all are being answered."""
        there = [one for one in server.connections if _is_open(one)]
        if len(there) < self._most:
            return True
        # The oldest: somebody who only holds connections must not lock out who has a request.
        idle = next((one for one in there if one not in self._busy), None)
        if idle is not None:
            idle.force_close()
        return idle is not None

    def _check(self, protocol: web.RequestHandler) -> None:
        """Close a connection without a request under way; its client may connect again."""
        if protocol in self._busy:
            asyncio.get_running_loop().call_later(self._patience, self._check, protocol)
        elif protocol.transport is not None:
            protocol.force_close()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Mark the connection as busy while its request is answered."""
        self._busy.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._busy.discard(request.protocol)


def _is_open(protocol: web.RequestHandler) -> bool:
    return protocol.transport is not None and not protocol.transport.is_closing()


def _shorten(record: logging.LogRecord) -> bool:
    """Turn the line about a request that is not HTTP into a warning without a traceback.

    aiohttp logs it as an error of the server; anybody who reaches the port can cause it.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg = f"%s sent something that is not HTTP ({type(error).__name__})"
        record.exc_info = None
    return True


def protection(
    name: str,
    tls: ServerTlsSettings | None,
    on_error: Callable[[NeedsOperatorError], None],
    emit: Emit = ignore,
) -> ssl.SSLContext | None:
    """Return what the listener ``name`` serves HTTPS with, None for plain HTTP.

    Raises ``ConfigError`` if the files cannot be used now. If renewed files cannot be used,
    ``on_error`` is called at each connection, and the files before them stay in use. ``emit``
    gets the validity of the certificate.
    """
    if tls is None:
        return None
    try:
        files = TlsSettings(**tls.model_dump())
        return ServerTls(files, f"listener {name}", emit).listening(on_error)
    except NeedsOperatorError as error:
        raise ConfigError([Fault(f"{name}.tls", str(error), error.hint)]) from error


# asyncio's own limit is 60 s, in which a silent client would hold a connection.
_HANDSHAKE = 5.0


class Listener:
    """Serves one application on one address, over HTTPS with a TLS context."""

    def __init__(
        self, name: str, app: web.Application, *, most: int = MOST_CONNECTIONS, **options: Any
    ) -> None:
        """Listen to nothing yet; ``most`` bounds the connections.

        ``name`` is the settings' key (``admin``), ``options`` are those of aiohttp's
        ``web.AppRunner``.
        """
        self._name = name
        self._app = app
        self._guard = Guard(most=most)
        # Outermost: whatever the application does with a request, its connection is busy.
        app.middlewares.insert(0, self._guard.middleware)
        self._options = options
        self._server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
        """Listen and return the base URL; port 0 takes a free port.

        Raises ``ConfigError`` if the address cannot be used.
        """
        handshake: dict[str, Any] = {}
        if tls is not None:
            handshake = {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE}
        logger = logging.getLogger(f"forwarder.{self._name}")
        logger.addFilter(_shorten)
        runner = web.AppRunner(
            self._app, logger=logger, access_log=None, shutdown_timeout=1.0, **self._options
        )
        await runner.setup()
        self._runner = runner
        loop, server = asyncio.get_running_loop(), runner.server
        assert server is not None, "setup makes it"  # noqa: S101  # nosec B101
        try:
            # Not web.TCPSite: the guard must stand between the loop and aiohttp's protocols.
            self._server = await loop.create_server(
                partial(self._guard.connect, server), host, port, backlog=64, **handshake
            )
        except OSError as error:
            await self.aclose()
            problem = f"{host}:{port} cannot be listened on: {system_reason(error)}"
            hint = "choose another port, or 0 for a free one"
            raise ConfigError([Fault(f"{self._name}.listen", problem, hint)]) from error
        bound = self._server.sockets[0].getsockname()
        # An IPv6 address stands in brackets in a URL.
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"{'https' if tls else 'http'}://{shown}:{bound[1]}"

    async def aclose(self) -> None:
        """Stop listening and close what is open; idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
