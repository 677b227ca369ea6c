"""Gzip for request bodies: ISA-L where it is there, zlib elsewhere; large bodies in a thread."""

from __future__ import annotations

import asyncio
import gzip
from importlib.util import find_spec

_IN_THREAD = 32_768
"""Bytes from which compressing would hold the event loop for noticeable time (about 0.1 ms)."""

if find_spec("isal"):
    from isal import igzip

    def compress(data: bytes) -> bytes:
        """Return ``data`` as one gzip member; always the same bytes for the same input."""
        return bytes(igzip.compress(data, 1, mtime=0))

else:

    def compress(data: bytes) -> bytes:
        """Return ``data`` as one gzip member; always the same bytes for the same input."""
        return gzip.compress(data, 1, mtime=0)


async def gzipped(data: bytes) -> bytes:
    """Return ``data`` as one gzip member, without holding up the event loop."""
    if len(data) < _IN_THREAD:
        return compress(data)
    return await asyncio.to_thread(compress, data)
