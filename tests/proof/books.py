"""What was shown and what has arrived, as digests of rows: the judges of every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import orjson

_STREAMS = frozenset({"access_requests", "scim_updates"})
_MASKED = "request_body"
Digest = bytes


def digest(row: Mapping[str, Any]) -> Digest:
    """Return a row's digest; request bodies are left out, since passwords in them are masked."""
    kept = {key: value for key, value in row.items() if key not in (_MASKED, "_forwarder")}
    return blake2b(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def shown_rows(lines: Iterable[bytes]) -> Counter[Digest]:
    """Return the oracle's rows, each as often as a client must hold it."""
    return Counter(digest(orjson.loads(line)["row"]) for line in lines)


class Book:
    """What one destination has: every id, how often it came, and the row it stands for."""

    def __init__(self) -> None:
        self.arrived: Counter[str] = Counter()
        self.rows: dict[str, Digest] = {}

    def note(self, event: Mapping[str, Any]) -> None:
        """Write down an event in format raw; the forwarder's own events do not count."""
        told = event["_forwarder"]
        if told["stream"] in _STREAMS:
            identity = told["id"]
            self.arrived[identity] += 1
            if identity not in self.rows:
                self.rows[identity] = digest(event)

    def held(self) -> Counter[Digest]:
        """Return the rows that are here, each id once."""
        return Counter(self.rows.values())

    @property
    def again(self) -> int:
        """Return the deliveries beyond the first of each id."""
        return self.arrived.total() - len(self.arrived)


def lost(shown: Counter[Digest], book: Book, dead: Iterable[Digest] = ()) -> int:
    """Return how many rows that were shown are neither in the book nor dead."""
    return (shown - book.held() - Counter(dead)).total()
