"""The identity of a row: what makes two sightings one event, and two twins two.

Unkeyed, so that the same row has the same id on a new volume and in another cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import orjson

VERSION = 1
SIZE = 16


def canonical(row: Any) -> bytes:
    """Return ``row`` as compact JSON with sorted keys; equal rows give equal bytes."""
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


class Identifier:
    """Makes the identities of one stream of one account."""

    def __init__(self, account_id: str, stream: str) -> None:
        """Fix the part of the hashed text that all rows share."""
        self._prefix = f"{VERSION}\n{stream}\n{account_id}\n".encode()

    def identity(self, canonical_row: bytes, copy: int = 0) -> bytes:
        """Return 16 bytes for the ``copy``-th (from 0) identical row within one response."""
        text = self._prefix + canonical_row + b"\n%d" % copy
        return blake2b(text, digest_size=SIZE).digest()

    def identities(self, canonical_rows: Iterable[bytes]) -> list[bytes]:
        """Return one identity a row of one response, counting true twins."""
        copies: dict[bytes, int] = {}
        prefix, count, result = self._prefix, copies.get, []
        for text in canonical_rows:
            copy = count(text, 0)
            copies[text] = copy + 1
            result.append(blake2b(prefix + text + b"\n%d" % copy, digest_size=SIZE).digest())
        return result
