"""The identity of a row: what makes two sightings one event, and two twins two.

Unkeyed, so that the same row has the same id on a new volume and in another cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import repeat
from typing import Any

import orjson

VERSION = 1
SIZE = 16


def canonical(row: Any) -> bytes:
    """Return ``row`` as compact JSON with sorted keys; equal rows give equal bytes."""
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


def canonicals(rows: Iterable[Any]) -> list[bytes]:
    """Return ``canonical`` of every row."""
    return list(map(orjson.dumps, rows, repeat(None), repeat(orjson.OPT_SORT_KEYS)))


class Identifier:
    """Makes the identities of one stream of one account."""

    def __init__(self, account_id: str, stream: str) -> None:
        """Hash the part of the text that all rows share, once for all of them."""
        self._begun = blake2b(f"{VERSION}\n{stream}\n{account_id}\n".encode(), digest_size=SIZE)

    def identity(self, canonical_row: bytes, copy: int = 0) -> bytes:
        """Return 16 bytes for the ``copy``-th (from 0) identical row within one response."""
        text = self._begun.copy()
        text.update(canonical_row)
        text.update(b"\n%d" % copy)
        return text.digest()

    def identities(self, canonical_rows: Iterable[bytes]) -> list[bytes]:
        """Return one identity a row of one response, counting true twins."""
        texts, begin, found = list(canonical_rows), self._begun.copy, []
        for text in texts:
            row = begin()
            row.update(text)
            row.update(b"\n0")
            found.append(row.digest())
        return found if len(set(found)) == len(found) else self._told_apart(texts, found)

    def _told_apart(self, texts: Sequence[bytes], first: Iterable[bytes]) -> list[bytes]:
        """Number the copies of equal rows; ``first`` is what each would be as the first copy."""
        copies: Counter[bytes] = Counter()
        found = []
        for text, identity in zip(texts, first, strict=True):
            found.append(self.identity(text, copies[identity]) if copies[identity] else identity)
            copies[identity] += 1
        return found
