"""Cloudflare's envelope around results and errors, and the page a query gets; pure.

`access_requests` tells `total_count: 0` beside a full page, as seen on the real API; `scim/updates`
counts honestly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any

import orjson

from forwarder.simulator.feed import Feed, Page, read_row
from forwarder.simulator.names import SCIM_UPDATES
from forwarder.simulator.query import Query


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer: HTTP status, Cloudflare's code and message, the chain below it."""

    status: int
    code: int
    message: str
    chain: tuple[tuple[int, str], ...] = ()

    def body(self) -> bytes:
        """Return the envelope of this error."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.chain:
            error["error_chain"] = [{"code": code, "message": text} for code, text in self.chain]
        return orjson.dumps({"success": False, "errors": [error], "messages": [], "result": None})


MISSING_HEADERS = Problem(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
GARBLED_HEADER = Problem(
    400, 6003, "Invalid request headers", ((6111, "Invalid format for Authorization header"),)
)
INVALID_TOKEN = Problem(401, 1000, "Invalid API Token")
NO_PERMISSION = Problem(403, 10000, "Authentication error")
FOREIGN_ACCOUNT = Problem(403, 9109, "Unauthorized to access requested resource")
NO_ROUTE = Problem(404, 7000, "No route for that URI")
THROTTLED = Problem(429, 971, "Please wait and consider throttling your request speed")


def unknown_account(path: str) -> Problem:
    """Return the error for an account that does not exist."""
    return Problem(
        404, 7003, f"Could not route to {path}, perhaps your object identifier is invalid?"
    )


def bad_parameter(reason: str) -> Problem:
    """Return the error for a parameter that cannot be understood."""
    return Problem(400, 12130, f"access.api.error.invalid_request: {reason}")


def read_page(feed: Feed, query: Query) -> Page:
    """Return the instances that answer a query, in the order of the answer."""
    window = feed.window(query.since_us, query.until_us, inclusive_since=query.inclusive_since)
    places = window if query.direction == "asc" else window[::-1]
    start, stop = (query.page - 1) * query.size, query.page * query.size
    if not query.tests and (query.idps is None or feed.store.known_tags <= query.idps):
        numbers = tuple(map(feed.store.at, places[start:stop]))
        return Page(numbers, query.page, query.size, len(places))
    fitting = _fitting(feed, query, places)
    if feed.stream == SCIM_UPDATES:
        found = tuple(fitting)
        return Page(found[start:stop], query.page, query.size, len(found))
    return Page(tuple(islice(fitting, start, stop)), query.page, query.size)


def page_body(feed: Feed, page: Page, query: Query, *, reversed_keys: bool = False) -> bytes:
    """Return the answer's body."""
    bodies = feed.store.served(page.numbers)
    if query.fields is not None:
        bodies = [_projected(body, query.fields) for body in bodies]
    if reversed_keys:
        bodies = [_turned_round(body) for body in bodies]
    info = {"count": len(bodies), "page": page.page, "per_page": page.size, "total_count": 0}
    if feed.stream == SCIM_UPDATES:
        info |= {"total_count": page.total, "total_pages": ceil(page.total / page.size)}
    return envelope(b"[" + b",".join(bodies) + b"]", info)


def envelope(result: bytes, info: dict[str, int] | None = None) -> bytes:
    """Return a success envelope around a result that is JSON already."""
    head = b'{"result":' + result + b',"success":true,"errors":[],"messages":[]'
    return head + (b"}" if info is None else b',"result_info":' + orjson.dumps(info) + b"}")


def _fitting(feed: Feed, query: Query, places: Sequence[int]) -> Iterator[int]:
    store, idps = feed.store, query.idps
    for number in map(store.at, places):
        if idps is not None and store.tags[number] not in idps:
            continue
        if not query.tests or _passes(store.body(number), query):
            yield number


def _passes(body: bytes, query: Query) -> bool:
    row = read_row(body)
    return all(test(row) for test in query.tests)


def _projected(body: bytes, fields: tuple[str, ...]) -> bytes:
    row = read_row(body)
    return orjson.dumps({key: row[key] for key in fields if key in row})


def _turned_round(body: bytes) -> bytes:
    try:
        row = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    return orjson.dumps(dict(reversed(row.items())))
