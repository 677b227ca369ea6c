"""A TCP or TLS connection that notices first when the other side goes, and knows what has arrived.

``write`` hands bytes over; ``settled`` returns when the other side's kernel has acknowledged them
all. Plain TCP tells no more than that: whether the program there has read them, only a protocol
with answers can say.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import TypeAlias

from forwarder.core.errors import TransientError
from forwarder.transport.stream_endpoint import Endpoint, explain

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
        """Return 0: this platform does not say; what left our buffers counts as arrived."""
        del descriptor
        return 0


class Stream(asyncio.Protocol):
    """One connection, made by ``connect``; of no more use once it is lost."""

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
        """Connect, and protect the connection if the endpoint wants it; called by ``connect``."""
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
        """Notice a server that does not take our certificate; called by ``connect``.

        In TLS 1.3 it says so only after the handshake is over for us.
        """
        if self.endpoint.tls is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LATE_REFUSAL)
        if self.lost:
            raise self.loss()

    def data_received(self, data: bytes) -> None:
        """Pass on what the other side says."""
        if self._on_data is not None and not self.lost:
            self._on_data(data)

    def eof_received(self) -> None:
        """Count the connection as lost at once: the next write would vanish without an error."""
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember why, and wake everybody who waits."""
        self._lose(exc)
        self._ended.set()

    def _lose(self, reason: Exception | None) -> None:
        if self.lost:
            return
        self.lost, self._reason = True, reason
        if self._on_lost is not None:
            self._on_lost(self.loss())

    def loss(self) -> TransientError:
        """Return what happened to a lost connection, as the error to raise."""
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
        """Return when all that was written has reached the other side's kernel.

        Raises ``TransientError`` when the connection is lost before or at that moment: a socket
        that was reset holds nothing unacknowledged either, so the loop gets its turn to say so.
        There is no event for it, hence the polling; an idle receiver may take 40 ms (delayed ACK).
        """
        pause = _FIRST_POLL
        while not self.lost and self.outstanding():
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL)
        for _ in range(_TURNS_TO_NOTICE):
            await asyncio.sleep(0)
        if self.lost or self._raw is None or self._raw.is_closing():
            raise self.loss()

    def acknowledge_now(self) -> None:
        """Tell the other side's kernel at once what arrived, where the platform can.

        A sender of many small answers (Nagle) waits for that, and we would wait 40 ms with it
        (delayed ACK) when we have nothing to send ourselves. Lasts only until the next segment.
        """
        quick = getattr(socket, "TCP_QUICKACK", None)
        found = self._raw.get_extra_info("socket") if self._raw is not None else None
        if quick is not None and found is not None and found.fileno() >= 0:
            found.setsockopt(socket.IPPROTO_TCP, quick, 1)

    async def finish(self, grace: float) -> bool:
        """Say that nothing more comes and wait ``grace`` seconds for the other side to close too.

        False when the connection broke instead: what was not read yet is gone. A side that closes
        in answer to our end has read everything; one that does not answer is left alone.
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
        """Drop the connection at once; what has not left is lost with it. Idempotent."""
        self._on_lost = None
        self._lose(ConnectionAbortedError("given up here"))
        if self._raw is not None:
            self._raw.abort()


async def connect(
    endpoint: Endpoint, on_data: OnData | None = None, on_lost: OnLost | None = None
) -> Stream:
    """Return an open connection to ``endpoint``.

    ``on_data`` gets what the other side says; ``on_lost`` is called once when the connection is
    lost, unless we ended it. Raises ``TransientError`` when nobody answers in time and
    ``NeedsOperatorError`` when one side does not accept the other's certificate.
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
    """Notice a dead peer within a minute, idle (keep-alive) or not (user time-out)."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (*_KEEP_ALIVE, ("TCP_USER_TIMEOUT", int(user_timeout * 1000)))
    for name, value in options:
        number = getattr(socket, name, None)
        if number is not None:
            connection.setsockopt(socket.IPPROTO_TCP, number, value)
