"""Rows that a strict JSON reader refuses, although they were put into an answer.

The variants are those that orjson refuses: an escaped lone surrogate, bytes that are no UTF-8,
a number beyond a double, nesting deeper than 1024.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

DEPTH = 1500
VARIANTS: dict[str, bytes] = {
    "lone_surrogate": b'"\\ud800lone"',
    "bad_utf8": b'"caf\xe9"',
    "huge_number": b"1e400",
    "deep": b"[" * DEPTH + b"]" * DEPTH,
}


def unreadable_row(variant: str, row: dict[str, Any]) -> bytes:
    """Return `row` with one more key whose value cannot be read.

    Raises:
        ValueError: there is no such variant.

    """
    if variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise ValueError(f"no unreadable value is called {variant!r}; there are {known}")
    return orjson.dumps(row)[:-1] + b',"purpose":' + VARIANTS[variant] + b"}"


def read_row(body: bytes) -> dict[str, Any]:
    """Return a row's keys as well as they can be read.

    What only a lenient reader accepts (a lone surrogate, infinity) is kept; a row that nobody can
    read is `{"unreadable": its text, bytes that are no UTF-8 escaped}`.
    """
    try:
        row = orjson.loads(body)
    except orjson.JSONDecodeError:
        row = _read_leniently(body)
    return row if isinstance(row, dict) else {"unreadable": body.decode(errors="backslashreplace")}


def _read_leniently(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
