"""Statuses of forwarders of other releases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def lacking(value: Any) -> Iterator[Any]:
    """Return a value without each of its keys in turn, at any depth."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from ([*value[:number], other, *value[number + 1 :]] for other in lacking(item))
    if isinstance(value, dict):
        for key, item in value.items():
            yield {name: inner for name, inner in value.items() if name != key}
            yield from ({**value, key: other} for other in lacking(item))


def changed(value: Any) -> Iterator[Any]:
    """Return a value with another thing in the place of each of its parts, at any depth."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            for other in changed(value[key]):
                copy = value.copy()
                copy[key] = other
                yield copy
    else:
        yield from (None, [None], {}, 10**400, float("inf"))
