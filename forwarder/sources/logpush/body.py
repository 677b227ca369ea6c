"""A pushed body: read with bounds, unpacked twice, cut into lines.

The first time, while it arrives, it is only measured: nothing may be stored of a body that turns
out to be broken. The second time its lines are taken out, in pieces: a body is never in memory
unpacked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from hashlib import sha256
from typing import Any, cast

import orjson

from forwarder.sources.logpush.config import Limits

try:
    from isal import isal_zlib as zlib
except ImportError:  # no wheel for this platform; the format is the same
    import zlib  # type: ignore[no-redef]

_BROKEN = cast("type[Exception]", zlib.error)
_PIECE = 256 * 1024
"""Bytes that are unpacked at once: a millisecond."""
KEPT = 64 * 1024
"""Bytes that are kept of what is too long or broken."""
_FREE_MEMBERS, _MEMBER = 64, 1024
"""Members of gzip that any body may have, and the bytes that pay for a further one."""
_MAGIC = b"\x1f\x8b"
_GZIP = 31
"""The window bits for gzip, header and trailer."""
_VALIDATION = ("tests", "test", {"content": "tests"}, {"content": "test"})
_LONGEST_VALIDATION = 64


class PushRefusedError(Exception):
    """The push is refused: ``result`` is a label of the metrics, ``status`` the answer's."""

    def __init__(self, result: str, status: int, reason: str) -> None:
        """Take the reason as one line for the answer and the log, so without a row or a secret."""
        super().__init__(reason)
        self.result = result
        self.status = status


class Unpacker:
    """Unpacks gzip piece by piece; what is not gzip passes as it is."""

    def __init__(self, *, said_gzip: bool) -> None:
        """Take it for gzip if the header says so; otherwise the first bytes decide."""
        self._said_gzip = said_gzip
        self._begun = False
        self._stream: Any = None
        self._first = b""
        self._members: float = _FREE_MEMBERS

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Give what a chunk unpacks to; raises ``PushRefusedError`` for broken gzip."""
        self._members += len(chunk) / _MEMBER
        if not self._begun:
            chunk = self._first + chunk
            if len(chunk) < len(_MAGIC):
                self._first = chunk
                return
            self._begin(chunk)
        if self._stream is None:
            yield chunk
        while self._stream is not None and chunk:
            try:
                piece = self._stream.decompress(chunk, _PIECE)
            except _BROKEN as error:
                raise _broken("it cannot be unpacked") from error
            if piece:
                yield piece
            chunk = self._stream.unconsumed_tail
            if self._stream.eof:
                # Several members one after the other are one body (RFC 1952, 2.2).
                chunk = self._stream.unused_data.lstrip(b"\0")
                if not chunk:
                    return
                self._next_member()

    def finish(self) -> bytes:
        """Return what is left; raises ``PushRefusedError`` if the end is missing."""
        if self._stream is not None and not self._stream.eof:
            raise _broken("it is cut short")
        if self._said_gzip and self._first and not self._begun:
            raise _broken("it does not begin as gzip does")
        return b"" if self._begun else self._first

    def _next_member(self) -> None:
        # Each takes time to begin, also if it is empty: 16 MiB of them took ten seconds.
        self._members -= 1
        if self._members < 0:
            raise _too_large("the body has too many members of gzip")
        self._stream = zlib.decompressobj(wbits=_GZIP)

    def _begin(self, chunk: bytes) -> None:
        self._begun = True
        if chunk.startswith(_MAGIC):
            self._stream = zlib.decompressobj(wbits=_GZIP)
        elif self._said_gzip:
            raise _broken("it does not begin as gzip does")


def _broken(what: str) -> PushRefusedError:
    return PushRefusedError("refused_encoding", 400, f"the body is not valid gzip: {what}")


class Body:
    """One body as it was sent, and what was learned of it on the way."""

    def __init__(self, limits: Limits, *, said_gzip: bool, declared: int | None) -> None:
        """Hold nothing yet; ``declared`` is the length that the client has announced."""
        self._limits = limits
        self._said_gzip = said_gzip
        self._declared = declared
        self._kept = min(KEPT, limits.body)
        self._chunks: list[bytes] = []
        self._digest = sha256()
        self._start = b""
        self.size = 0
        self.unpacked = 0
        self.refusal: PushRefusedError | None = None

    async def read(self, chunks: AsyncIterable[bytes]) -> None:
        """Read the body to its end; raises ``PushRefusedError``.

        ``refusal`` is that error from the moment it is known: the client may stall after it.
        """
        rest = aiter(chunks)
        try:
            await self._read(rest)
        except PushRefusedError as error:
            self.refusal = error
            # The network cuts it elsewhere each time: the same bytes must be there when it
            # comes again.
            while self.size < self._kept and (chunk := await anext(rest, b"")):
                self._chunks.append(chunk)
                self.size += len(chunk)
            raise

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        most = self._limits.body
        # If the announced length is too large, only the start is read, to recognise the body.
        until = self._kept if self._declared is not None and self._declared > most else most
        unpacker = Unpacker(said_gzip=self._said_gzip)
        async for whole in chunks:
            chunk = whole[: until - self.size]
            self._chunks.append(chunk)
            self.size += len(chunk)
            if len(chunk) < len(whole) or self.size == until < most:
                raise _too_large(f"the body has more than {most} bytes")
            for piece in unpacker.feed(chunk):
                self._measure(piece)
                # A few kB may unpack to megabytes: others must run in between.
                await asyncio.sleep(0)
        self._measure(unpacker.finish())

    def _measure(self, piece: bytes) -> None:
        self.unpacked += len(piece)
        if self.unpacked > self._limits.decompressed:
            raise _too_large(f"the body unpacks to more than {self._limits.decompressed} bytes")
        self._digest.update(piece)
        if len(self._start) <= _LONGEST_VALIDATION:
            self._start += piece[:_LONGEST_VALIDATION]

    @property
    def name(self) -> str:
        """Return the digest of the unpacked body: the same when the body is sent again."""
        return self._digest.hexdigest()

    @property
    def fingerprint(self) -> str:
        """Return a digest of the beginning and of what was announced; for a refused body."""
        announced = f"{self._declared} {self._said_gzip} ".encode()
        return sha256(announced + self.beginning).hexdigest()

    @property
    def beginning(self) -> bytes:
        """Return up to 64 KiB from the beginning, as they were sent."""
        return b"".join(self._chunks)[: self._kept]

    @property
    def is_validation(self) -> bool:
        """Return True for what Cloudflare uploads to see whether a destination works."""
        if self.unpacked > _LONGEST_VALIDATION:
            return False
        text = self._start.strip()
        try:
            return not text or orjson.loads(text) in _VALIDATION
        except orjson.JSONDecodeError:
            return text.decode(errors="replace") in _VALIDATION

    def lines(self) -> Iterator[list[bytes | Overlong]]:
        """Give the lines, some at a time, perhaps none; valid once ``read`` has returned."""
        unpacker, cutter = Unpacker(said_gzip=self._said_gzip), Cutter(self._limits.line)
        for chunk in self._chunks:
            for piece in unpacker.feed(chunk):
                yield cutter.feed(piece)
        yield cutter.feed(unpacker.finish() + b"\n")


def _too_large(reason: str) -> PushRefusedError:
    return PushRefusedError("refused_size", 413, reason)


class Overlong:
    """A line that is longer than a row may be: its beginning, and its length."""

    def __init__(self, beginning: bytes, length: int) -> None:
        """Keep the beginning."""
        self.beginning = beginning
        self.length = length

    def __len__(self) -> int:
        """Return the bytes that are kept."""
        return len(self.beginning)


class Cutter:
    """Cuts text into lines without keeping one that is too long."""

    def __init__(self, most: int) -> None:
        """Keep lines of up to ``most`` bytes whole."""
        self._most = most
        self._parts: list[bytes] = []
        self._length = 0

    def feed(self, piece: bytes) -> list[bytes | Overlong]:
        """Return the lines that end in this piece, without empty ones."""
        head, end, rest = piece.partition(b"\n")
        self._grow(head)
        if not end:
            return []
        *whole, last = rest.split(b"\n")
        lines = [self._taken(), *(self._one(line) for line in whole)]
        self._grow(last)
        return [line for line in lines if line]

    def _grow(self, part: bytes) -> None:
        if self._length <= max(self._most, KEPT):
            self._parts.append(part)
        self._length += len(part)

    def _taken(self) -> bytes | Overlong:
        whole = b"".join(self._parts)
        length, self._parts, self._length = self._length, [], 0
        return self._one(whole) if length == len(whole) else Overlong(whole[:KEPT], length)

    def _one(self, line: bytes) -> bytes | Overlong:
        line = line.strip()
        return line if len(line) <= self._most else Overlong(line[:KEPT], len(line))
