"""Durations and sizes as people write them: ``10s``, ``5m``, ``24h``, ``7d``, ``64MiB``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)?")


def parse_duration(value: Any) -> float:
    """Return seconds for ``1h30m``, ``500ms``, ``0`` or a number of seconds.

    Raises ``ValueError`` with what is allowed.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is no duration; write for example 500ms, 10s, 5m, 24h, 7d")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size(value: Any) -> int:
    """Return bytes for ``64MiB``, ``1GB`` or a number of bytes.

    Raises ``ValueError`` with what is allowed.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match or (match[2] or "B") not in _BYTES:
        raise ValueError(f"{value!r} is no size; write for example 512KiB, 64MiB, 2GiB, 10MB")
    return int(float(match[1]) * _BYTES[match[2] or "B"])


def format_duration(seconds: float) -> str:
    """Return the shortest exact spelling: ``90`` gives ``1m30s``, ``-0.25`` gives ``-250ms``."""
    rest, parts = abs(round(seconds * 1000)), ["-"] if seconds < 0 else []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) if parts and parts != ["-"] else "0s"


def format_size(size: int) -> str:
    """Return the shortest exact spelling: ``67108864`` gives ``64MiB``, ``1500`` gives ``1500``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return str(size)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$|^0$"},
                {"type": "number", "minimum": 0},
            ]
        }
    ),
]
"""Seconds, written as a duration."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\d+(\.\d+)?\s*([kKMGT]i?)?B?$"},
                {"type": "integer", "minimum": 0},
            ]
        }
    ),
]
"""Bytes, written as a size."""
