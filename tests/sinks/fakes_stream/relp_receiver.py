"""A strict RELP receiver: a transaction number out of turn ends the session, as in rsyslog."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections import Counter
from typing import Self

from forwarder.testing.network import free_port

_ID = re.compile(rb'"id":"([0-9a-f]{32})"')
_OPENED = b"200 OK\nrelp_version=0\nrelp_software=fake\ncommands=syslog"


class RelpReceiver:
    """Acknowledges what it keeps. ``refuse`` names texts whose messages get a 500."""

    secrets: tuple[str, ...] = ()

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = free_port()
        self.goodbyes = 0
        self.silent = False
        self.refuse: bytes | None = None
        self.opened_with = _OPENED
        self.messages: list[bytes] = []
        self.tries = 0
        self.unanswered = 0
        self.faults: list[str] = []

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_down()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def come_back(self) -> None:
        self.silent = False
        self.opened_with = _OPENED
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, ssl=self._tls
            )

    async def hang(self) -> None:
        self.silent = True

    async def lock_out(self) -> None:
        """Refuse new sessions, and end those there are."""
        self.opened_with = b"500 not for you"
        self.cut()
        await asyncio.sleep(0.01)

    async def go_down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Break every connection off."""
        for writer in list(self._writers):
            writer.transport.abort()

    def requests(self) -> int:
        return self.tries

    def arrived(self) -> Counter[str]:
        ids = (match for message in self.messages for match in _ID.findall(message))
        return Counter(identity.decode() for identity in ids)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._session(reader, writer)
        writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        expected = 1
        while True:
            txnr, command, data = await _frame(reader)
            if txnr != expected:
                self.faults.append(f"transaction {txnr} instead of {expected}")
                writer.write(b"0 serverclose 0\n")
                return
            expected += 1
            if self.silent:
                self.unanswered += 1
                continue
            answer = self._answer(command, data)
            writer.write(b"%d rsp %d %b\n" % (txnr, len(answer), answer))
            if command == b"close":
                self.goodbyes += 1
                writer.write(b"0 serverclose 0\n")
                return
            await writer.drain()

    def _answer(self, command: bytes, data: bytes) -> bytes:
        if command == b"open":
            return self.opened_with
        if command == b"syslog":
            self.tries += 1
            if self.refuse is not None and self.refuse in data:
                return b"500 refused"
            self.messages.append(data)
        return b"200 OK"


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    txnr = int(await reader.readuntil(b" "))
    command = (await reader.readuntil(b" "))[:-1]
    length = b""
    while (byte := await reader.readexactly(1)) not in b" \n":
        length += byte
    data = b""
    if byte == b" ":
        data = await reader.readexactly(int(length))
        await reader.readexactly(1)
    return txnr, command, data
