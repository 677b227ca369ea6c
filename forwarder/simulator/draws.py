"""Reproducible chance."""

from __future__ import annotations

from random import Random


def seeded(*words: object) -> Random:
    """Return a generator that depends on nothing but these words."""
    text = "/".join(map(str, words))
    return Random(text)  # noqa: S311 - traffic, not cryptography  # nosec B311


def whole_number(draw: Random, expected: float) -> int:
    """Return a whole number whose average is `expected`."""
    whole = int(expected)
    return whole + (draw.random() < expected - whole)
