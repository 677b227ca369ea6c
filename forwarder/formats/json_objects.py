"""Pieces of JSON events: objects without empty values, and times.

RFC 3339 for formats that write it: one call to the calendar a day, not a row.

What the JSON formats share: leaving out what is empty, adding what a sink asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from forwarder.core.timing import format_seconds

_DAY = 86_400
_REMEMBERED_DAYS = 64


def iso_text(time_us: int) -> str:
    """Return ``2026-01-01T00:00:00.000000Z`` for microseconds since 1970."""
    seconds, rest = divmod(time_us, 1_000_000)
    day, second = divmod(seconds, _DAY)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{_date(day)}{hour:02d}:{minute:02d}:{second:02d}.{rest:06d}Z"


@lru_cache(_REMEMBERED_DAYS)
def _date(day: int) -> str:
    """Return date and ``T`` of the day of this number since 1970."""
    return format_seconds(day * _DAY * 1_000_000)[: len("2026-01-01T")]


Object = dict[str, Any]


def filled(given: Mapping[str, Any]) -> Object:
    """Return ``given`` without its empty texts, objects, lists and Nones; zero and False stay."""
    return {key: value for key, value in given.items() if value not in _EMPTY}


def add_fields(target: Object, fields: Mapping[str, str]) -> Object:
    """Put each text of ``fields`` into ``target`` at its dotted path, and return ``target``.

    An added field replaces what is there; a path through something that is no object replaces
    that. Objects on the way are made where they are missing.
    """
    for path, text in fields.items():
        *way, last = path.split(".")
        place = target
        for name in way:
            found = place.get(name)
            place[name] = place = dict(found) if isinstance(found, Mapping) else {}
        place[last] = text
    return target


_EMPTY: tuple[Any, ...] = ("", None, {}, [], ())
