"""Rows of the authentication log (``access_requests``) as events of the common schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any

from forwarder.core.json_text import members
from forwarder.core.login import (
    FAILURE,
    LOGIN_TEXTS,
    SUCCESS,
    UNKNOWN,
    Login,
    LoginShape,
    Oddities,
    is_email,
    oddities,
)
from forwarder.core.masking import mask_row
from forwarder.core.origin import Origin, is_plain
from forwarder.core.schema import (
    MALFORMED_KEY,
    NOT_READ,
    RAW_BYTES_KEY,
    Glimpse,
    Normaliser,
    Reading,
)
from forwarder.core.timestamps import parse_us
from forwarder.sources.cloudflare_access.normalise_login_values import (
    COUNTRIES,
    ip_version,
    ip_version_but_4,
    is_country,
    is_ipv4,
    split_domain,
    user_kind,
)

_KNOWN = frozenset({*LOGIN_TEXTS, "allowed"})
_KEY_COUNT = len(_KNOWN)
_LIVE_ONLY = frozenset({"user_id", "country", "app_name", "app_type"})
"""Keys that are not documented; their absence is no fault of a row."""
_WITH_CARE = frozenset({MALFORMED_KEY, RAW_BYTES_KEY, "request_body"})
"""Keys of rows that are more than a login."""
_texts_of = itemgetter(*LOGIN_TEXTS)
_email_of, _allowed_of = itemgetter("user_email"), itemgetter("allowed")

_TIME, _USER = map(LOGIN_TEXTS.index, ("created_at", "user_email"))
_ACTION, _CONNECTION = map(LOGIN_TEXTS.index, ("action", "connection"))
_LONGEST_USER, _SHORT = 254, 1000
"""In bytes, of a user and of all texts of a row: no format has to cut what is no longer."""


def read_login(row: Mapping[str, Any], origin: Origin, time_us: int) -> Reading:
    """Return shape and texts of a row whose values are what their keys promise.

    See ``core.schema.Read``. This runs for every row: a row with each key and no other takes the
    shortest way, and what it costs to look at one is counted in tens of nanoseconds.
    """
    allowed, has_extra = row.get("allowed"), len(row) > _KEY_COUNT
    try:
        texts = _texts_of(row) if len(row) >= _KEY_COUNT else _present_texts(row)
        together = "".join(texts)
    except (KeyError, TypeError):
        texts, has_extra = _present_texts(row), True
        if not all(map(_is_text, texts)):
            return NOT_READ
        together = "".join(texts)
    country, _, ip, email, _, domain, _, _, _, action, connection, _ = texts
    version = 4 if is_ipv4(ip) else ip_version_but_4(ip)
    kind = "email" if is_email(email) else user_kind(email)
    if (
        (not version and ip)
        or (allowed.__class__ is not bool and allowed is not None)
        or len(together) > _SHORT
        or not (origin.plain or _is_easy(together, email, time_us != origin.seen_us))
    ):
        return NOT_READ
    if "/" in domain:
        host, _, path = domain.partition("/")
        texts += (host, path)
        if path[:1] == "/":
            return NOT_READ
    if country not in COUNTRIES and country:
        if not is_country(country):
            return NOT_READ
        texts = (country.upper(), *texts[1:])
    if has_extra or allowed is None or "" in texts or kind == "name":
        return _read_odd(row, texts, (allowed, version, kind))
    return (allowed, action, connection, version, kind, len(texts), None), texts, ""


def _read_odd(
    row: Mapping[str, Any], texts: tuple[str, ...], facts: tuple[bool | None, int, str]
) -> Reading:
    """Return the reading of a row that lacks something or has more than we know."""
    allowed, version, kind = facts
    if not texts[_TIME] or len(texts[_USER]) > _LONGEST_USER or not _WITH_CARE.isdisjoint(row):
        return NOT_READ
    extra = {} if _KNOWN.issuperset(row) else {k: v for k, v in row.items() if k not in _KNOWN}
    odd = None
    if extra or allowed is None or "" in texts:
        odd = _missing(tuple(map(bool, texts)), allowed is None, bool(extra))
    shape = (allowed, texts[_ACTION], texts[_CONNECTION], version, kind, len(texts), odd)
    return shape, texts, members(extra)


def normalise_login(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in ``row``; see ``core.schema.Normalise``."""
    shape, texts, _ = read_login(row, origin, time_us)
    if shape is None:
        return _sort_out(row, origin, id, time_us)
    return Login(origin, id, time_us, row, texts, shape)


def _present_texts(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of ``LOGIN_TEXTS``, empty texts for what is missing or null."""
    values = _layout(tuple(row))((*row.values(), ""))
    return tuple(["" if value is None else value for value in values]) if None in values else values


@lru_cache(64)
def _layout(keys: tuple[str, ...]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return what picks texts out of the values of a row with these keys, and one more value.

    That last one is picked for keys that the row does not have.
    """
    return itemgetter(*(keys.index(key) if key in keys else -1 for key in LOGIN_TEXTS))


@lru_cache(256)
def _missing(present: tuple[bool, ...], no_result: bool, has_extra: bool) -> Oddities:  # noqa: FBT001 - facts
    """Return what is odd about a row in which nothing is wrong, but something is missing."""
    quality = [
        key
        for key, is_there in zip(LOGIN_TEXTS, present, strict=False)
        if not is_there and key not in _LIVE_ONLY
    ]
    if no_result:
        quality.append("allowed")
    return oddities(tuple(quality), present, has_extra=has_extra, plain=True)


def _sort_out(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in any row, whatever it holds."""
    row = mask_row(row)
    found, quality, has_extra = _sift(row)
    email, texts = found["user_email"], (*found.values(), *split_domain(found["app_domain"]))
    together, allowed = "".join(found.values()), _boolean(row.get("allowed"))
    short = len(together) <= _SHORT and len(email) <= _LONGEST_USER
    plain = short and (origin.plain or _is_easy(together, email, timed=True))
    shape = LoginShape(
        allowed,
        found["action"],
        found["connection"],
        ip_version(found["ip_address"]),
        user_kind(email),
        len(texts),
    )
    if quality or has_extra or not plain or "" in texts:
        present = tuple(map(bool, texts))
        shape = shape._replace(odd=oddities(quality, present, has_extra=has_extra, plain=plain))
    return Login(origin, id, time_us, row, texts, shape)


def _sift(row: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...], bool]:
    """Return the texts of ``row``, its quality, and whether there is more than the schema knows."""
    texts, faults, has_extra = {}, [], not _KNOWN.issuperset(row)
    for key in LOGIN_TEXTS:
        value = row.get(key)
        texts[key] = value if isinstance(value, str) and _FITS.get(key, _anything)(value) else ""
        misfit = value not in (None, "") and not texts[key]
        has_extra = has_extra or misfit
        if misfit or (not value and key not in _LIVE_ONLY):
            faults.append(key)
    if _boolean(row.get("allowed")) is None:
        faults.append("allowed")
        has_extra = has_extra or row.get("allowed") is not None
    if parse_us(texts["created_at"]) is None:
        faults = ["time", *(key for key in faults if key != "created_at")]
    texts["country"] = texts["country"].upper()
    return texts, ("malformed",) if MALFORMED_KEY in row else tuple(faults), has_extra


def _is_easy(together: str, email: str, timed: bool) -> bool:  # noqa: FBT001 - a fact
    """Say of a row what ``Origin.plain`` says of a page, and that no format has to cut a text."""
    return (
        timed
        and is_plain(together)
        and len(together.encode()) <= _SHORT
        and len(email.encode()) <= _LONGEST_USER
    )


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _anything(_: str) -> bool:
    return True


def glance_logins(rows: Sequence[Mapping[str, Any]], origin: Origin) -> Glimpse:
    """See ``forwarder.core.schema.Glance``. Usual rows take a way without a step a row."""
    accounts = repeat(origin.account)
    try:
        users, allowed = list(map(_email_of, rows)), list(map(_allowed_of, rows))
        if "".join(users) and "" not in users and set(map(type, allowed)) == {bool}:
            return Glimpse(accounts, list(map(_OUTCOMES.__getitem__, allowed)), users)
    except (KeyError, TypeError):
        pass
    outcomes = [_OUTCOMES[_boolean(row.get("allowed"))] for row in rows]
    users = [_text(row.get("user_email")) or _text(row.get("user_id")) for row in rows]
    return Glimpse(accounts, outcomes, users)


_FITS: dict[str, Callable[[str], bool]] = {
    "ip_address": lambda ip: ip_version(ip) != 0,
    "country": is_country,
}
_OUTCOMES = {True: SUCCESS, False: FAILURE, None: UNKNOWN}

LOGINS = Normaliser(normalise_login, glance_logins, read_login)
"""How the rows of stream ``access_requests`` become events."""
