"""What the JSON formats share: leaving out what is empty, adding what a sink asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
