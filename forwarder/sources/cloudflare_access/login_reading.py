"""Reads a login out of a row without making an event of it; ``login_columns`` reads whole pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from forwarder.core.identity import members
from forwarder.core.login import (
    LOGIN_TEXTS,
    LONGEST_USER,
    SHORT,
    Oddities,
    Origin,
    is_easy,
    is_email,
    oddities,
)
from forwarder.core.schema import MALFORMED_KEY, NOT_READ, RAW_BYTES_KEY, Reading
from forwarder.sources.cloudflare_access.normalise_login_values import (
    COUNTRIES,
    ip_version_but_4,
    is_country,
    is_ipv4,
    user_kind,
)

KNOWN_KEYS = frozenset({*LOGIN_TEXTS, "allowed"})
"""The keys of a login that the common schema has a place for."""
LIVE_ONLY = frozenset({"user_id", "country", "app_name", "app_type"})
"""Keys that are not documented; their absence is no fault of a row."""
KEY_COUNT, _TEXT_COUNT = len(KNOWN_KEYS), len(LOGIN_TEXTS)
_WITH_CARE = frozenset({MALFORMED_KEY, RAW_BYTES_KEY, "request_body"})
"""Keys of rows that are more than a login."""
DOCUMENTED_COUNT = KEY_COUNT - len(LIVE_ONLY)
_DOCUMENTED_TEXTS = DOCUMENTED_COUNT - 1
NOT_DOCUMENTED = ("",) * len(LIVE_ONLY)
texts_of, documented_of = itemgetter(*LOGIN_TEXTS), itemgetter(*LOGIN_TEXTS[:_DOCUMENTED_TEXTS])
"""Take the texts of a row that has all known keys, or all that are documented."""
TIME, IP, USER, DOMAIN, ACTION, CONNECTION, COUNTRY = map(
    LOGIN_TEXTS.index,
    (
        "created_at",
        "ip_address",
        "user_email",
        "app_domain",
        "action",
        "connection",
        "country",
    ),
)
"""Places of texts."""


def read_login(row: Mapping[str, Any], origin: Origin, time_us: int) -> Reading:
    """Return shape and texts of a row whose values are what their keys promise.

    This runs for every row, at a cost counted in tens of nanoseconds: one with each key that is
    documented, or seen on live rows, too, and no other takes the shortest way.
    """
    try:
        if len(row) == KEY_COUNT:
            texts, layout = texts_of(row), COMPLETE
            whole = all(texts)
        elif len(row) == DOCUMENTED_COUNT:
            texts, layout = documented_of(row), DOCUMENTED
            whole = all(texts)
            texts += NOT_DOCUMENTED
        else:
            layout = _layout(tuple(row))
            texts = layout.pick([*row.values(), ""])
            whole = texts.count("") == layout.lacks
        together = "".join(texts)
    except (KeyError, TypeError):
        texts, layout, whole = _present_texts(row), COMPLETE, False
        if not texts:
            return NOT_READ
        together = "".join(texts)
    _, ip, email, domain, _, action, connection, _, country, _, _, _ = texts
    allowed = row.get("allowed")
    version = 4 if is_ipv4(ip) else ip_version_but_4(ip)
    kind = "email" if is_email(email) else user_kind(email)
    if (
        (not version and ip)
        or (allowed.__class__ is not bool and allowed is not None)
        or len(together) > SHORT
        or not (origin.plain or is_easy(together, email, timed=time_us != origin.seen_us))
    ):
        return NOT_READ
    if "/" in domain:
        host, _, path = domain.partition("/")
        texts += (host, path)
        if path[:1] == "/":
            return NOT_READ
        whole = whole and bool(host and path)
    if (not whole or layout.careful or allowed is None or kind == "name") or (
        country not in COUNTRIES and country
    ):
        return _read_odd(row, texts, (allowed, version, kind))
    count = len(texts)
    odd = layout.odd[count > _TEXT_COUNT]
    return (allowed, action, connection, version, kind, count, odd), texts, ""


def _present_texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts of a row that has nulls, or of any keys; none if a value is no text."""
    given = map(row.get, LOGIN_TEXTS)
    texts = tuple(["" if value is None else value for value in given])
    return texts if all([text.__class__ is str for text in texts]) else ()  # noqa: C419 - faster


def _read_odd(
    row: Mapping[str, Any], texts: tuple[str, ...], facts: tuple[bool | None, int, str]
) -> Reading:
    """Return the reading of a row that lacks something or has more than we know."""
    allowed, version, kind = facts
    if not texts[TIME] or len(texts[USER]) > LONGEST_USER or not _WITH_CARE.isdisjoint(row):
        return NOT_READ
    country = texts[COUNTRY]
    if country not in COUNTRIES and country:
        if not is_country(country):
            return NOT_READ
        texts = (*texts[:COUNTRY], country.upper(), *texts[COUNTRY + 1 :])
    extra = {key: value for key, value in row.items() if key not in KNOWN_KEYS}
    odd = None
    if extra or allowed is None or "" in texts:
        odd = _missing(tuple(map(bool, texts)), no_result=allowed is None, has_extra=bool(extra))
    shape = (allowed, texts[ACTION], texts[CONNECTION], version, kind, len(texts), odd)
    return shape, texts, members(extra)


class _Layout(NamedTuple):
    """What all rows with the same keys, in the same order, have in common.

    ``pick`` takes the texts out of a row's values and one empty text after those, which stands
    for each of the ``lacks`` texts that there is no key for. ``odd`` is what that makes odd, for
    a domain without and with a path. ``careful`` says that it takes more than that to read one.
    """

    pick: Callable[[Sequence[Any]], tuple[Any, ...]]
    lacks: int
    odd: tuple[Oddities | None, Oddities | None]
    careful: bool


@lru_cache(64)
def _layout(keys: tuple[str, ...]) -> _Layout:
    """Return the layout of rows with these keys."""
    present = tuple(key in keys for key in LOGIN_TEXTS)
    lacks = present.count(False)
    odd = _missing(present), _missing((*present, True, True))
    return _Layout(
        itemgetter(*(keys.index(key) if key in keys else -1 for key in LOGIN_TEXTS)),
        lacks,
        odd if lacks else (None, None),
        not {"created_at", *keys} <= KNOWN_KEYS or "created_at" not in keys,
    )


@lru_cache(256)
def _missing(
    present: tuple[bool, ...], *, no_result: bool = False, has_extra: bool = False
) -> Oddities:
    """Return what is odd about a row in which nothing is wrong, but something is missing."""
    quality = [
        key
        for key, is_there in zip(LOGIN_TEXTS, present, strict=False)
        if not is_there and key not in LIVE_ONLY
    ]
    if no_result:
        quality.append("allowed")
    return oddities(tuple(quality), present, has_extra=has_extra, plain=True)


COMPLETE, DOCUMENTED = _layout(LOGIN_TEXTS), _layout(LOGIN_TEXTS[:_DOCUMENTED_TEXTS])
