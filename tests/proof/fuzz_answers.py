"""Coverage-guided fuzzing of everything that reads an API answer.

Started with ``python -m`` and libFuzzer's options; ends with a traceback at the first error that is
not a documented one. With ``planted`` as its first argument it has a mistake to find.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

import atheris
import orjson

with atheris.instrument_imports(include=["forwarder"]):
    from forwarder.core.errors import ForwarderError
    from tests.proof.reading import read_through

from tests.proof.mutations import holders, mutated

_HEADERS = {"date": "Mon, 01 Jan 2026 00:00:00 GMT", "content-type": "application/json"}
_BEFORE, _AFTER = b'{"success":true,"errors":[],"result":', b"}"
_STATUSES = (200, 200, 200, 204, 301, 400, 401, 403, 404, 429, 500, 503, 530)
_TEXT = 200
_LONGEST = 5.0
"""Seconds of CPU: a machine that is busy with something else says nothing about an answer."""


def one_answer(data: bytes) -> None:
    """Read ``data`` as the list of rows in a good answer; behind a control character as any."""
    status, body = 200, _BEFORE + data + _AFTER
    if data[:1] < b"\x20":
        status, body = _STATUSES[len(data) and data[0] % len(_STATUSES)], data[1:]
    began = time.process_time()
    try:
        read_through(status, _HEADERS, body)
    except ForwarderError:
        return
    finally:
        took = time.process_time() - began
        if took > _LONGEST:
            raise AssertionError(f"{took:.1f} s of CPU for {len(data)} bytes")


def planted(data: bytes) -> None:
    """Be wrong where only a good answer with a certain kind of row in it leads."""
    one_answer(data)
    try:
        rows = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("status"), int):
            raise KeyError("status")


def one_change(data: bytes, most: int, seed: int) -> bytes:
    """Change a text, value, key or element of JSON, or the bytes; libFuzzer calls it."""
    rng = Random(seed)
    try:
        rows = orjson.loads(data) if rng.random() < 0.7 else None
    except orjson.JSONDecodeError:
        rows = None
    if rows is not None:
        changed = orjson.dumps(rows) if _a_text(rows, rng) else mutated(rows, rng)
        if len(changed) <= most:
            return changed
    return bytes(atheris.Mutate(data, most))


def _a_text(rows: Any, rng: Random) -> bool:
    """Change a text inside, as JSON where it holds JSON; return True if there was one."""
    holder = rng.choice(holders(rows) or [{}])
    places = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
    texts = [(key, value) for key, value in places if isinstance(value, str)]
    if not texts or rng.random() < 0.5:
        return False
    key, text = rng.choice(texts)
    if text[:1] in ("{", "[") and (inner := _parsed(text)) is not None:
        holder[key] = mutated(inner, rng).decode(errors="replace")
    else:
        holder[key] = atheris.Mutate(text.encode(), _TEXT).decode(errors="replace")
    return True


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


if __name__ == "__main__":
    target: Callable[[bytes], None] = one_answer
    if "planted" in sys.argv[1:2]:
        target = atheris.instrument_func(planted)
    options = [argument for argument in sys.argv if argument != "planted"]
    atheris.Setup(options, target, custom_mutator=one_change)
    atheris.Fuzz()
