"""Gzip for request bodies: ISA-L where it is there, zlib elsewhere; large bodies in a thread."""

from __future__ import annotations

import asyncio
import gzip
from importlib.util import find_spec

if find_spec("isal"):
    from isal import igzip

    _IN_THREAD = 4 * 2**20

    def compress(data: bytes) -> bytes:
        """Return ``data`` as one gzip member; always the same bytes for the same input."""
        return bytes(igzip.compress(data, 1, mtime=0))

else:
    _IN_THREAD = 65_536

    def compress(data: bytes) -> bytes:
        """Return ``data`` as one gzip member; always the same bytes for the same input."""
        return gzip.compress(data, 1, mtime=0)


async def gzipped(data: bytes) -> bytes:
    """Return ``data`` as one gzip member, without holding up the event loop for long.

    What takes about a millisecond is done at once: a thread would take longer to start, and
    bodies would queue up before it uncompressed.
    """
    if len(data) < _IN_THREAD:
        return compress(data)
    return await asyncio.to_thread(compress, data)
