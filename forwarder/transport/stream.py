"""A TCP or TLS connection that a sink writes to, and knows what has arrived.

``write`` hands bytes over; ``settled`` returns when the other side's kernel has acknowledged all of
them. TCP has nothing better: only a protocol with answers can tell whether the program there has
read them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from forwarder.core.errors import TransientError
from forwarder.transport.tls import Tls, explain_tls

_LOOK = "check that it runs, that host and port are right, and what a firewall lets through"
_CLOSED_AT_ONCE = "if it always closes at once, it may want a client certificate: tls.cert_file"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect to, and how: ``tls`` is the context or None, times are seconds.

    ``user_timeout`` is how long sent bytes may stay unacknowledged before the connection is given
    up (``TCP_USER_TIMEOUT``; Linux only).
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    connect_timeout: float = 10.0
    user_timeout: float = 30.0

    def __str__(self) -> str:
        """Return ``host:port`` for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def explain(endpoint: Endpoint, reason: Exception | None) -> TransientError:
    """Return our error for ``reason``; None: the other side closed the connection."""
    match reason:
        case None:
            hint = _CLOSED_AT_ONCE if endpoint.tls else ""
            return TransientError(f"{endpoint} closed the connection", hint=hint)
        case ssl.SSLError():
            return explain_tls(reason, str(endpoint))
        case TimeoutError():
            return TransientError(f"{endpoint} does not answer in time", hint=_LOOK)
        case socket.gaierror():
            return TransientError(f"{endpoint}: the name cannot be resolved", hint="check the name")
    said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return TransientError(f"no connection with {endpoint}: {said}", hint=_LOOK)


OnData: TypeAlias = Callable[[bytes], None]
OnLost: TypeAlias = Callable[[TransientError], None]
_LATE_REFUSAL = 0.05
_TURNS_TO_NOTICE = 2
_FIRST_POLL, _LONGEST_POLL = 0.0002, 0.01
_KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))

if sys.platform == "linux":
    import array
    import fcntl
    import termios

    def _unacknowledged(descriptor: int) -> int:
        """Return how many bytes the other side's kernel has not acknowledged (SIOCOUTQ)."""
        left = array.array("i", [0])
        try:
            fcntl.ioctl(descriptor, termios.TIOCOUTQ, left)
        except OSError:
            return 0
        return left[0]

else:

    def _unacknowledged(descriptor: int) -> int:
        """Return 0: this platform cannot tell; bytes that left our buffers count as arrived."""
        del descriptor
        return 0


class Stream(asyncio.Protocol):
    """One connection, made by ``connect``; once it is lost, a new one is needed."""

    def __init__(self, endpoint: Endpoint, on_data: OnData | None, on_lost: OnLost | None) -> None:
        """Wait for ``connect`` to open it."""
        self.endpoint = endpoint
        self.lost = False
        self._reason: Exception | None = None
        self._on_data = on_data
        self._on_lost = on_lost
        self._raw: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        self._ended = asyncio.Event()

    async def open(self) -> None:
        """Connect, with TLS if the endpoint has it; called by ``connect``."""
        endpoint, loop = self.endpoint, asyncio.get_running_loop()
        raw, _ = await loop.create_connection(lambda: self, endpoint.host, endpoint.port)
        self._raw = raw
        _tune(raw, endpoint.user_timeout)
        if endpoint.tls is None:
            self._transport = raw
            return
        name = endpoint.server_name or endpoint.host
        self._transport = await loop.start_tls(raw, self, endpoint.tls, server_hostname=name)
        if self._transport is None:
            raise ConnectionResetError("closed during the TLS handshake")

    async def refused_late(self) -> None:
        """Raise if the server refuses our certificate; called by ``connect``."""
        # In TLS 1.3 the refusal comes only after the handshake has ended for us.
        if self.endpoint.tls is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LATE_REFUSAL)
        if self.lost:
            raise self.loss()

    def data_received(self, data: bytes) -> None:
        """Pass received bytes on."""
        if self._on_data is not None and not self.lost:
            self._on_data(data)

    def eof_received(self) -> None:
        """Count the connection as lost: the next write would vanish without an error."""
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember the reason, and wake everybody who waits."""
        self._lose(exc)
        self._ended.set()

    def _lose(self, reason: Exception | None) -> None:
        if self.lost:
            return
        self.lost, self._reason = True, reason
        if self._on_lost is not None:
            self._on_lost(self.loss())

    def loss(self) -> TransientError:
        """Return the error to raise for a lost connection."""
        return explain(self.endpoint, self._reason)

    def write(self, data: bytes) -> None:
        """Hand ``data`` over without waiting; raises ``TransientError`` on a lost connection."""
        if self.lost or self._transport is None:
            raise self.loss()
        self._transport.write(data)

    def outstanding(self) -> int:
        """Return how many bytes are in our buffers or unacknowledged by the other kernel."""
        raw, transport = self._raw, self._transport
        if raw is None or transport is None:
            return 0
        buffered = raw.get_write_buffer_size()
        if transport is not raw:
            buffered += transport.get_write_buffer_size()
        found = raw.get_extra_info("socket")
        descriptor = found.fileno() if found is not None else -1
        return buffered + (_unacknowledged(descriptor) if descriptor >= 0 else 0)

    async def settled(self) -> None:
        """Return when everything written has reached the other side's kernel.

        Raises ``TransientError`` when the connection is lost before that. An idle receiver may
        take 40 ms to acknowledge (delayed ACK).
        """
        # The kernel has no event for "all acknowledged", hence the polling.
        pause = _FIRST_POLL
        while not self.lost and self.outstanding():
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL)
        # A socket that was reset holds nothing unacknowledged either. The loop needs its turn to
        # notice that.
        for _ in range(_TURNS_TO_NOTICE):
            await asyncio.sleep(0)
        if self.lost or self._raw is None or self._raw.is_closing():
            raise self.loss()

    def acknowledge_now(self) -> None:
        """Acknowledge received bytes now, where the platform can; lasts until the next segment."""
        # A sender of many small answers waits for our acknowledgement (Nagle), and without this
        # we would wait 40 ms with it (delayed ACK) when we have nothing to send.
        quick = getattr(socket, "TCP_QUICKACK", None)
        found = self._raw.get_extra_info("socket") if self._raw is not None else None
        if quick is not None and found is not None and found.fileno() >= 0:
            found.setsockopt(socket.IPPROTO_TCP, quick, 1)

    async def finish(self, grace: float) -> bool:
        """Send the end of the stream and wait ``grace`` seconds for the other side to close too.

        Returns False when the connection broke instead, so that unread bytes are gone. A side
        that closes in answer to our end has read everything; after ``grace`` that is assumed.
        """
        transport, self._on_lost = self._transport, None
        if transport is None or self.lost:
            return False
        try:
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()
            await asyncio.wait_for(self._ended.wait(), grace)
        except TimeoutError:
            return True
        except OSError:
            return False
        else:
            return self._reason is None
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection and everything that has not left yet; idempotent."""
        self._on_lost = None
        self._lose(ConnectionAbortedError("given up here"))
        if self._raw is not None:
            self._raw.abort()


async def connect(
    endpoint: Endpoint, on_data: OnData | None = None, on_lost: OnLost | None = None
) -> Stream:
    """Return an open connection to ``endpoint``.

    ``on_data`` gets received bytes; ``on_lost`` is called once when the connection is lost, unless
    we ended it. Raises ``TransientError`` when nobody answers in time, ``NeedsOperatorError`` when
    one side does not accept the other's certificate.
    """
    stream = Stream(endpoint, on_data, on_lost)
    try:
        async with asyncio.timeout(endpoint.connect_timeout):
            await stream.open()
            await stream.refused_late()
    except OSError as error:
        stream.abort()
        raise explain(endpoint, error) from error
    except BaseException:
        stream.abort()
        raise
    return stream


def _tune(transport: asyncio.Transport, user_timeout: float) -> None:
    """Detect a dead peer within a minute, idle (keep-alive) or not (user time-out)."""
    connection = transport.get_extra_info("socket")
    # An idle connection whose peer is gone silently would swallow the next messages.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (*_KEEP_ALIVE, ("TCP_USER_TIMEOUT", int(user_timeout * 1000)))
    for name, value in options:
        number = getattr(socket, name, None)
        if number is not None:
            connection.setsockopt(socket.IPPROTO_TCP, number, value)


class Route:
    """Several receivers: the one that works is kept, the next one is tried after a failure."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        tls: Tls | None,
        connect_timeout: float,
        user_timeout: float,
    ) -> None:
        """Take host and port of each receiver, the preferred one first; no I/O."""
        self._addresses = addresses
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._user_timeout = user_timeout
        self._current = 0

    def endpoint(self) -> Endpoint:
        """Return the receiver whose turn it is; raises ``NeedsOperatorError`` for its TLS files."""
        host, port = self._addresses[self._current]
        context = self._tls.context() if self._tls else None
        name = self._tls.name_for(host) if self._tls else None
        return Endpoint(host, port, context, name, self._connect_timeout, self._user_timeout)

    async def connect(self, on_data: OnData | None = None, on_lost: OnLost | None = None) -> Stream:
        """Try every receiver once, beginning with the one whose turn it is.

        Raises what ``connect`` raised for the first of them.
        """
        failures: list[TransientError] = []
        for _ in self._addresses:
            try:
                return await connect(self.endpoint(), on_data, on_lost)
            except TransientError as error:
                failures.append(error)
                self.advance()
        raise failures[0]

    def advance(self) -> None:
        """Turn to the next receiver."""
        self._current = (self._current + 1) % len(self._addresses)
