"""How messages travel: over a connection that is mended, or as datagrams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from random import SystemRandom
from typing import Any, Protocol

from forwarder.core.backoff import Backoff
from forwarder.core.contracts import SinkContext
from forwarder.core.errors import TransientError
from forwarder.sinks.syslog.config import SyslogConfig
from forwarder.sinks.syslog.happenings import SentUnconfirmed, WindowResent
from forwarder.sinks.syslog.window import ResendWindow
from forwarder.transport.stream import Stream
from forwarder.transport.syslog_settings import Route

_CLOSING = 2.0


class Carrier(Protocol):
    """Takes framed messages to the receiver."""

    async def open(self) -> None:
        """Be ready, or say why not."""
        ...

    async def send(self, frames: Sequence[bytes]) -> None:
        """Return when the receiver's kernel has them, as far as that can be known."""
        ...

    async def aclose(self) -> None:
        """Release everything within seconds."""
        ...


class StreamCarrier:
    """One TCP or TLS connection at a time.

    What was acknowledged shortly before a connection broke may never have been read: it is owed,
    and goes out first on the next connection, which is made at once for that.
    """

    def __init__(self, config: SyslogConfig, context: SinkContext) -> None:
        """Connect to nothing yet."""
        tls = config.tls if config.transport == "tls" else None
        self._route = Route(config, config.default_port, tls)
        self._window = ResendWindow(config.resend_window, config.resend_age)
        self._context = context
        self._stream: Stream | None = None
        self._owed: list[bytes] = []
        self._connecting = asyncio.Lock()
        self._mending: asyncio.Task[None] | None = None
        self._rng = SystemRandom()

    async def open(self) -> None:
        """Connect, unless a connection is there that takes all it is given."""
        if self._stream is not None and self._stream.outstanding():
            self._stream.abort()
            self._part()
        await self._connected()

    async def send(self, frames: Sequence[bytes]) -> None:
        """Return when the receiver's kernel has acknowledged every byte."""
        stream = await self._connected()
        stream.write(b"".join(frames))
        await stream.settled()
        self._window.add(frames, self._context.clock.monotonic())

    async def aclose(self) -> None:
        """Let the receiver read to the end; what it did not is sent once more, if it can be."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait([self._mending])
            self._mending = None
        try:
            async with asyncio.timeout(2 * _CLOSING):
                await self._finish()
                if self._owed:
                    await (await self._connected()).settled()
                    await self._finish()
        except (TransientError, TimeoutError):
            pass  # nobody is there to take it; the offsets of what is owed are long settled
        finally:
            if self._stream is not None:
                self._stream.abort()
                self._stream = None

    async def _finish(self) -> None:
        stream = self._stream
        if stream is not None and not stream.lost and not await stream.finish(_CLOSING):
            self._part()
        self._stream = None

    async def _connected(self) -> Stream:
        async with self._connecting:
            if self._stream is None or self._stream.lost:
                self._stream = stream = await self._route.connect(on_lost=self._on_lost)
                self._settle_debt(stream)
            return self._stream

    def _settle_debt(self, stream: Stream) -> None:
        if not self._owed:
            return
        frames, self._owed = self._owed, []
        stream.write(b"".join(frames))
        self._window.add(frames, self._context.clock.monotonic())
        self._context.report(WindowResent(self._context.name, str(stream.endpoint), len(frames)))

    def _part(self) -> None:
        """Owe what the connection that just ended may have swallowed."""
        self._owed += self._window.take(self._context.clock.monotonic())

    def _on_lost(self, error: TransientError) -> None:
        del error  # whoever waits for the connection gets it
        self._part()
        self._route.advance()
        if self._owed and (self._mending is None or self._mending.done()):
            name = f"{self._context.name}: send again what may be lost"
            self._mending = asyncio.get_running_loop().create_task(self._mend(), name=name)

    async def _mend(self) -> None:
        """Reconnect for what is owed even when there is nothing new to send."""
        backoff, attempt = Backoff(), 0
        while self._owed:
            attempt += 1
            await self._context.clock.sleep(backoff.delay(attempt, self._rng))
            with contextlib.suppress(TransientError):
                await (await self._connected()).settled()


class DatagramCarrier(asyncio.DatagramProtocol):
    """One message a datagram. A receiver that is not there is noticed only now and then."""

    def __init__(self, config: SyslogConfig, context: SinkContext) -> None:
        """Open no socket yet."""
        self._route = Route(config, config.default_port, None)
        self._context = context
        self._transport: asyncio.DatagramTransport | None = None
        self._error: Exception | None = None

    def error_received(self, exc: Exception) -> None:
        """Remember that the other side's kernel refused a datagram; the next send says so."""
        self._error = exc

    async def open(self) -> None:
        """Look the name up and make a socket; nobody answers, so nothing is proven."""
        self._drop()
        endpoint = self._route.endpoint()
        loop = asyncio.get_running_loop()
        try:
            transport: Any
            transport, _ = await loop.create_datagram_endpoint(
                lambda: self, remote_addr=(endpoint.host, endpoint.port)
            )
        except OSError as error:
            raise TransientError(f"no UDP socket for {endpoint}: {error.strerror}") from error
        self._transport = transport

    async def send(self, frames: Sequence[bytes]) -> None:
        """Return when all datagrams have left; best effort."""
        if self._transport is None:
            await self.open()
        transport = self._transport
        for frame in frames:
            if transport is not None:
                transport.sendto(frame)
        await asyncio.sleep(0)
        if self._error is not None:
            error, self._error = self._error, None
            self._route.advance()
            self._drop()
            raise TransientError(f"a datagram was refused: {error}") from error
        self._context.report(SentUnconfirmed(self._context.name, len(frames)))

    async def aclose(self) -> None:
        """Close the socket."""
        self._drop()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None
