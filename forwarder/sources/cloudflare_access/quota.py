"""What Cloudflare says about a token's quota, in numbers; pure.

Every answer carries ``Ratelimit: "default";r=50;t=30`` (requests left, seconds until some come
back) and ``Ratelimit-Policy: "default";q=1200;w=300`` (requests in any window of seconds), each
a list. What cannot be read is ignored: the quota from the settings holds anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

_ITEM = re.compile(r'\s*"?([^",;=]*)"?((?:\s*;\s*[a-z]+\s*=\s*\d{1,9})*)\s*')
_PARAMETER = re.compile(r"([a-z]+)\s*=\s*(\d+)")
_LONGEST_WINDOW = 3600.0


class Limit(NamedTuple):
    """At most ``requests`` in any window of ``per`` seconds."""

    requests: int
    per: float

    def shared(self, share: float) -> Limit:
        """Return the part of it that may be used, one request at least."""
        return Limit(max(1, int(self.requests * share + 1e-9)), self.per)


@dataclass(frozen=True, slots=True)
class Standing:
    """``remaining`` requests until ``reset`` seconds from now."""

    remaining: int
    reset: float


def policies(headers: Mapping[str, str]) -> tuple[Limit, ...]:
    """Return the quotas that an answer states; windows over an hour are not believed."""
    found = (
        Limit(item["q"], float(item["w"]))
        for item in _items(headers.get("ratelimit-policy", ""))
        if item.keys() >= {"q", "w"}
    )
    return tuple(one for one in found if one.requests > 0 and 0 < one.per <= _LONGEST_WINDOW)


def standing(headers: Mapping[str, str]) -> Standing | None:
    """Return what is left by the tightest of the quotas that an answer tells about."""
    found = [
        Standing(item["r"], min(float(item["t"]), _LONGEST_WINDOW))
        for item in _items(headers.get("ratelimit", ""))
        if item.keys() >= {"r", "t"}
    ]
    return min(found, key=lambda one: one.remaining, default=None)


def _items(text: str) -> list[dict[str, int]]:
    matches = (_ITEM.fullmatch(part) for part in text.lower().split(","))
    return [
        {name: int(digits) for name, digits in _PARAMETER.findall(match[2])}
        for match in matches
        if match
    ]
