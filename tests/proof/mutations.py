"""Good answers of destinations with one thing wrong in them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from random import Random
from typing import Any

import orjson

SECRET = "a-token-that-must-not-be-told"
_HUGE = 3 * 2**20
_VALUES: Sequence[Any] = (
    None, True, False, 0, 1, -1, 200, 400, 2**53, 2**63, 2**64 - 1, -(2**63), 1.5, -0.0, 1e308, "",
    "200", "true", "\u0662", "\ud7ff\u0000\u001b[31m", [], {}, [[]], {"": {}}, [None],
)  # fmt: skip


def mutated(answer: Any, rng: Random) -> bytes:
    """Return a JSON answer with one value, key or element changed; now and then as raw bytes."""
    changed = copy.deepcopy(answer)
    places = holders(changed)
    if not places:
        return orjson.dumps(rng.choice(_VALUES))
    holder = rng.choice(places)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    match rng.randrange(7):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[f"{key}{rng.choice(('', ' ', 'x', SECRET))}"] = holder.pop(key)
        case 1 | 2 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case 3:
            holder[key] = "y" * _HUGE
        case 4:
            return _twice(changed)
        case _:
            holder[key] = rng.choice(_VALUES)
    return orjson.dumps(changed)


def _twice(answer: Any) -> bytes:
    """Return an object in which each key stands twice, the second time with null."""
    if not isinstance(answer, dict) or not answer:
        return b"[" * 5000
    pairs = [orjson.dumps(key) + b":" + orjson.dumps(value) for key, value in answer.items()]
    return b"{" + b",".join([*pairs, *(orjson.dumps(key) + b":null" for key in answer)]) + b"}"


def holders(value: Any) -> list[Any]:
    """Return every object and list inside that has something to change."""
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return []
    found = [value] if value else []
    return found + [holder for one in inner for holder in holders(one)]


def http(status: int, body: bytes, *head: bytes) -> bytes:
    """Return an HTTP answer."""
    lines = [b"HTTP/1.1 %d Said" % status, b"Content-Type: application/json",
             b"Content-Length: %d" % len(body), *head]  # fmt: skip
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def misframed(body: bytes, rng: Random) -> bytes:
    """Return an HTTP answer whose framing is wrong, or that comes with an odd status or header."""
    good, waits = (
        http(200, body),
        (b"-1", b"1e9", b"x", b"9" * 20, b"Fri, 99 Foo 0"),
    )
    return rng.choice(
        [
            good[: -rng.randrange(1, 20)],
            good.replace(b"Content-Length: ", b"Content-Length: 9"),
            good * 2,
            http(200, body, b"Content-Encoding: gzip"),
            http(200, body, b"Transfer-Encoding: chunked"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n" + body,
            http(200, body, b"X: " + b"x" * 70_000),
            http(rng.choice((301, 302, 307)), body, b"Location: http://127.0.0.1:1/x"),
            http(rng.choice((429, 503)), body, b"Retry-After: " + rng.choice(waits)),
            http(200, b" " * _HUGE + body),
            b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + good,
            http(rng.randrange(100, 1000), f"<html>{SECRET}</html>".encode()),
        ]
    )


def relp(txnr: int, text: bytes, rng: Random) -> bytes:
    """Return a RELP answer with one field changed, doubled, misplaced or oversize."""
    good = _frame(txnr, text)
    refusals = (b"500 no", b"2000 OK", b"20", b"OK", b"\x00" * 9, b"\xff\xfe")
    return rng.choice(
        [
            good * 2,
            _frame(rng.choice((0, 1, txnr + 1, 999_999_999)), text),
            rng.choice((b"-1", b"x", b"9" * 30, b"\xff")) + good,
            b"%d rsp %d %b\n" % (txnr, len(text) + rng.choice((-1, 1, 10**6, 10**9)), text),
            good[:-1],
            b"%d serverclose 0\n" % txnr,
            good.replace(b"rsp", rng.choice((b"syslog", b"open", b"RSP", b"", b"x" * 500))),
            b"%d rsp 0\n" % txnr,
            _frame(txnr, rng.choice(refusals)),
            _frame(txnr, b"200 " + b"z" * _HUGE),
            b"0 serverclose 0\n" + good,
            b"",
            good[: len(good) // 2],
        ]
    )


def _frame(txnr: int, text: bytes) -> bytes:
    return b"%d rsp %d %b\n" % (txnr, len(text), text)
