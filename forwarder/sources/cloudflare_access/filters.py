"""Cloudflare's own filters (``query:`` of a stream): which there are, and what they may say.

They save volume at a price: a row they hide is never seen here, so it cannot be counted. Names,
operators and enumerations are those of Cloudflare's API description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

Scalar: TypeAlias = str | bool | int
Query: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]

_OURS = frozenset(
    {"since", "until", "direction", "limit", "page", "per_page", "fields", "idp_id", "account_id"}
)
"""Parameters that the tailing itself sets; another value would hide rows without a trace."""


@dataclass(frozen=True, slots=True)
class _Filter:
    """One parameter: a pattern its value must match whole, and how people call that pattern."""

    pattern: str
    meaning: str
    repeats: bool = False
    operates_on: str = ""

    def text(self, name: str, value: Scalar) -> str:
        """Return the value as it goes into the request."""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"{name}: {value!r} is not allowed; it takes {self.meaning}")
        return text


def _one_of(*words: str, repeats: bool = False, operates_on: str = "") -> _Filter:
    return _Filter("|".join(words), f"one of {', '.join(words)}", repeats, operates_on)


def _operator(field: str, *more: str) -> _Filter:
    return _one_of("eq", "neq", *more, operates_on=field)


_FLAG = _Filter("true|false", "true or false")
_TEXT = _Filter(r"\S(.{0,510}\S)?", "a text of 1 to 512 characters")
_TEXTS = _Filter(_TEXT.pattern, _TEXT.meaning, repeats=True)
_UUID = _Filter(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", "a UUID")

_ACCESS_REQUESTS: Mapping[str, _Filter] = {
    "email": _TEXT,
    "email_exact": _Filter("true|false", "true or false", operates_on="email"),
    "emailOp": _operator("email", "contains"),
    "user_id": _UUID,
    "user_idOp": _operator("user_id"),
    "allowed": _FLAG,
    "allowedOp": _operator("allowed"),
    "app_type": _TEXT,
    "app_typeOp": _operator("app_type"),
    "app_uid": _TEXT,
    "app_uidOp": _operator("app_uid"),
    "country_code": _Filter("[A-Za-z]{2}|T1", "two letters (ISO 3166), or T1 for Tor"),
    "country_codeOp": _operator("country_code"),
    "idp": _TEXT,
    "idpOp": _operator("idp"),
    "non_identity": _FLAG,
    "non_identityOp": _operator("non_identity"),
    "ray_id": _Filter("[0-9A-Fa-f]{1,16}", "up to 16 hexadecimal digits"),
    "ray_idOp": _operator("ray_id"),
}
_SCIM_UPDATES: Mapping[str, _Filter] = {
    "status": _one_of("FAILURE", "SUCCESS", repeats=True),
    "resource_type": _one_of("USER", "GROUP", repeats=True),
    "request_method": _one_of("DELETE", "PATCH", "POST", "PUT", repeats=True),
    "resource_user_email": _TEXTS,
    "resource_group_name": _TEXTS,
    "cf_resource_id": _TEXTS,
    "idp_resource_id": _TEXTS,
}
FILTERS: Mapping[str, Mapping[str, _Filter]] = {
    "access_requests": _ACCESS_REQUESTS,
    "scim_updates": _SCIM_UPDATES,
}
"""What each stream's ``query`` may name."""


def parameters(stream: str, query: Query) -> tuple[tuple[str, str], ...]:
    """Return ``query`` as request parameters, a list as repeated ones, in a fixed order.

    Raises ``ValueError`` with what is wrong and what is allowed.
    """
    found = tuple(pair for name in sorted(query) for pair in _pairs(stream, name, query[name]))
    for name in query:
        field = FILTERS[stream][name].operates_on
        if field and field not in query:
            raise ValueError(f"{name} says how to compare {field}, which is missing beside it")
    return found


def warnings(stream: str, query: Query) -> list[str]:
    """Return what an operator should know before using ``query``; one sentence each."""
    if not query:
        return []
    names = ", ".join(sorted(query))
    told = [f"{stream}: Cloudflare hides rows for us ({names}); what it hides cannot be counted"]
    if "user_id" in query:
        told.append("user_id is deprecated: Cloudflare accepts it and no longer applies it")
    return told


def _pairs(stream: str, name: str, value: Scalar | Sequence[Scalar]) -> list[tuple[str, str]]:
    known = FILTERS[stream].get(name)
    if known is None:
        raise ValueError(_unknown(stream, name))
    values = [value] if isinstance(value, str | bool | int) else list(value)
    if not values:
        raise ValueError(f"{name}: the list is empty; leave the filter out instead")
    if len(values) > 1 and not known.repeats:
        raise ValueError(f"{name}: takes one value, not {len(values)}")
    return [(name, known.text(name, one)) for one in values]


def _unknown(stream: str, name: str) -> str:
    if name in _OURS:
        return f"{name} is set by the forwarder itself and cannot be a filter"
    near = get_close_matches(name, FILTERS[stream], n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FILTERS[stream])}"
    return f"{name} is no filter of {stream}; {hint}"
