"""What a PromQL expression speaks of, found without a parser: series and label names. Pure."""

from __future__ import annotations

import re

_SERIES = re.compile(r"(?<![\w:$\"])((?:\w+:)?forwarder_\w+(?::\w+)?)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_STRINGS = re.compile(r'"[^"]*"')


def series_of(expression: str) -> list[tuple[str, frozenset[str]]]:
    """Return each series of the forwarder with the labels that its matchers name."""
    return [
        (name, frozenset(_MATCHER.findall(_STRINGS.sub('""', matchers or ""))))
        for name, matchers in _SERIES.findall(expression)
    ]


def grouping_of(expression: str) -> frozenset[str]:
    """Return the labels that are named by ``by``, ``without``, ``on`` and ``ignoring``."""
    lists = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return frozenset(label.strip() for each in lists for label in each.split(",") if label.strip())
