"""JSON out of anything: total, where ``orjson.dumps`` is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

TOO_DEEP = "[nested too deeply]"
_DEEPEST = 200
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


def dumps(value: Any) -> bytes:
    """Return ``value`` as compact JSON in UTF-8; never raises.

    Lone surrogates become ``?``, integers beyond 64 bits texts, what lies deeper than 200 levels
    the text ``[nested too deeply]``, and what is no JSON value its ``str``.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_tame(value, _DEEPEST))


def dumps_each(values: Sequence[Any]) -> list[bytes]:
    """Return ``dumps`` of each, without a step for each where none needs it."""
    try:
        return list(map(orjson.dumps, values))
    except TypeError:
        return list(map(dumps, values))


def members(value: Mapping[str, Any]) -> str:
    """Return the members of a JSON object without the braces around them."""
    return dumps(value)[1:-1].decode() if value else ""


def _tame(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if _SMALLEST <= value <= _LARGEST else str(value)
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        return TOO_DEEP
    if isinstance(value, Mapping):
        return {_text(key): _tame(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tame(item, depth - 1) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()
