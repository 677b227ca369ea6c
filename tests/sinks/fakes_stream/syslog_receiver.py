"""A syslog receiver over TCP whose reading the test can watch, stop and break off."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Self

from forwarder.testing.network import free_port

_ID = re.compile(rb'"id":"([0-9a-f]{32})"')
_RESET = struct.pack("ii", 1, 0)


class SyslogReceiver:
    """Reads whatever has arrived, at the latest when it is asked what did.

    What a connection brought is kept for each connection; ``received`` is all of it, with a torn
    message at the end of a connection left out.
    """

    secrets: tuple[str, ...] = ()

    def __init__(self, framing: str = "octet_counting", buffer: int | None = None) -> None:
        self._framing = framing
        self._buffer = buffer
        self._listener: socket.socket | None = None
        self._open: dict[socket.socket, bytearray] = {}
        self._past: list[bytes] = []
        self._reading = True
        self.port = free_port()
        self.connections = 0

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_down()

    async def come_back(self) -> None:
        """Listen, at the same port as before, and read."""
        self._reading = True
        if self._listener is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._buffer:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(16)
            listener.settimeout(0)
            self._listener = listener
            asyncio.get_running_loop().add_reader(listener, self._accept)
        for connection in self._open:
            asyncio.get_running_loop().add_reader(connection, self._read, connection)

    async def hang(self) -> None:
        """Accept, but read no more."""
        self._reading = False
        for connection in self._open:
            asyncio.get_running_loop().remove_reader(connection)

    async def go_down(self) -> None:
        """Stop listening and end every connection."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self.close_connections()

    def close_connections(self, *, read_first: bool = True, reset: bool = False) -> None:
        """End every connection, with a FIN or a reset, after reading to the end or without."""
        for connection in list(self._open):
            if read_first:
                self._read(connection)
            if connection not in self._open:
                continue
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._close(connection)

    def requests(self) -> int:
        """Return how many connections there were."""
        return self.connections

    @property
    def received(self) -> list[bytes]:
        """Return every whole message, without its framing."""
        self._drain()
        kept = [*self._past, *map(bytes, self._open.values())]
        unframe = octet_frames if self._framing == "octet_counting" else lf_frames
        return [message for data in kept for message in unframe(data)]

    def arrived(self) -> Counter[str]:
        """Return how often each event id is there."""
        ids = (match for message in self.received for match in _ID.findall(message))
        return Counter(identity.decode() for identity in ids)

    def _drain(self) -> None:
        self._accept()
        for connection in list(self._open):
            self._read(connection)

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.settimeout(0)
            self.connections += 1
            self._open[connection] = bytearray()
            if self._reading:
                asyncio.get_running_loop().add_reader(connection, self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        while connection in self._open:
            try:
                data = connection.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._close(connection)
                return
            self._open[connection] += data

    def _close(self, connection: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(connection)
        connection.close()
        self._past.append(bytes(self._open.pop(connection)))


def octet_frames(data: bytes) -> Iterable[bytes]:
    """Return the whole messages of an octet-counted stream."""
    position = 0
    while (space := data.find(b" ", position)) > 0:
        end = space + 1 + int(data[position:space])
        if end > len(data):
            return
        yield data[space + 1 : end]
        position = end


def lf_frames(data: bytes) -> Iterable[bytes]:
    """Return the whole lines of a stream."""
    return data.split(b"\n")[:-1]
