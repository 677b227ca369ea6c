"""Rows of the authentication log (``access_requests``) as events of the common schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from forwarder.core.json_text import members
from forwarder.core.masking import mask_row
from forwarder.core.schema import (
    CONNECTIONS,
    FAILURE,
    LOGIN_ACTIONS,
    MALFORMED_KEY,
    SUCCESS,
    UNKNOWN,
    Login,
    Normaliser,
    Origin,
    is_plain,
)
from forwarder.core.timestamps import parse_us

_KEYS = (
    "country",
    "created_at",
    "ip_address",
    "user_email",
    "user_id",
    "app_domain",
    "app_name",
    "app_uid",
    "app_type",
    "action",
    "connection",
    "ray_id",
)
_KNOWN = frozenset({*_KEYS, "allowed"})
_KEY_COUNT = len(_KNOWN)
_LIVE_ONLY = frozenset({"user_id", "country", "app_name", "app_type"})
"""Keys that are not documented; their absence is no fault of a row."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_texts_of = itemgetter(*_KEYS)

_EMAIL = re.compile(r"[a-zA-Z0-9!#$%&'*+,\-./=?^_`{|}~]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9-.]+")
_SERVICE_TOKEN = re.compile(r"[0-9a-f]{32}\.access")
_COUNTRY_CODE = 2

_REMEMBERED = 4096
"""Entries of each of the two memories below; what is asked of them is at most ``_SHORT`` long."""
_LONGEST_ADDRESS, _LONGEST_USER, _SHORT = 40, 254, 1000
"""In characters: an address, a user, all texts of a row that no format has to cut."""


def normalise_login(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in ``row``; see ``forwarder.core.schema.Normalise``.

    This runs for every row, so the row that has each key, no other and in each what we expect
    takes a short way; any other is sorted out with care. Both ways give the same event.
    """
    try:
        texts = _texts_of(row)
        country, _, ip, email, _, domain, _, _, _, action, connection, _ = texts
        together, allowed = "".join(texts), row["allowed"]
    except (KeyError, TypeError):
        return _sort_out(row, origin, id, time_us)
    host, slash, rest = domain.partition("/")
    if (
        len(row) != _KEY_COUNT
        or allowed.__class__ is not bool
        or "" in texts
        or len(together) > _SHORT
        or len(country) != _COUNTRY_CODE
        or len(email) > _LONGEST_USER
        or not (version := _ip_version(ip))
        or host[-1:] in _NO_HOST
        or time_us == origin.seen_us
        or not (origin.plain or is_plain(together))
    ):
        return _sort_out(row, origin, id, time_us)
    user_kind = _user_kind(email)
    shape = (
        allowed,
        action if action in LOGIN_ACTIONS else None,
        connection if connection in CONNECTIONS else None,
        version,
        user_kind,
        slash,
    )
    facts = (allowed, version, user_kind, (), _NOTHING, "", shape, host, slash + rest)
    return _make((origin, id, time_us, row, *facts, country.upper(), *texts[1:]))


def _sort_out(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in any row, whatever it holds."""
    row = mask_row(row)
    found, extra, faults = _sift(row)
    allowed = _boolean(row.get("allowed"))
    quality = _quality(row, faults, timed=parse_us(found["created_at"]) is not None)
    texts, together = tuple(found.values()), "".join(found.values())
    host, path = _split(found["app_domain"])
    version, user_kind = _version(found["ip_address"]), _kind(found["user_email"])
    shape: tuple[Any, ...] | None = None
    if (
        len(together) <= _SHORT
        and len(found["user_email"]) <= _LONGEST_USER
        and (origin.plain or is_plain(together))
    ):
        shape = (
            allowed,
            found["action"] if found["action"] in LOGIN_ACTIONS else None,
            found["connection"] if found["connection"] in CONNECTIONS else None,
            version,
            user_kind,
            path[:1],
        )
        if quality or extra or not host or "" in texts:
            shape = (*shape, quality, len(extra) == 0, host == "", *map(bool, texts))
    facts = (allowed, version, user_kind, quality, extra, members(extra), shape, host, path)
    return _make((origin, id, time_us, row, *facts, found["country"].upper(), *texts[1:]))


def _sift(row: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Return the texts of ``row``, what does not fit the schema, and the keys at fault."""
    extra = {key: value for key, value in row.items() if key not in _KNOWN}
    texts, faults = {}, []
    for key in _KEYS:
        value = row.get(key)
        text = value if isinstance(value, str) and _FITS.get(key, _anything)(value) else ""
        texts[key] = text
        if not text and value not in (None, ""):
            extra[key] = value
            faults.append(key)
        elif not text and key not in _LIVE_ONLY:
            faults.append(key)
    if _boolean(row.get("allowed")) is None:
        faults.append("allowed")
        if row.get("allowed") is not None:
            extra["allowed"] = row["allowed"]
    return texts, extra, faults


def _quality(row: Mapping[str, Any], faults: list[str], *, timed: bool) -> tuple[str, ...]:
    if MALFORMED_KEY in row:
        return ("malformed",)
    rest = (key for key in faults if key != "created_at")
    return tuple(rest) if timed else ("time", *rest)


def _split(domain: str) -> tuple[str, str]:
    """Return host and path of ``host/path``; the path has its slash or is empty."""
    host, slash, path = domain.partition("/")
    if host[-1:] == ":" and path[:1] == "/":
        return _split(path[1:])
    return host, slash + path


def _version(ip: str) -> int:
    """Return 4 or 6, or 0 for what is no address (one with a zone is none here)."""
    try:
        return 0 if len(ip) > _LONGEST_ADDRESS or "%" in ip else ip_address(ip).version
    except ValueError:
        return 0


def _kind(email: str) -> str:
    """Return what the key ``user_email`` holds: see ``forwarder.core.schema.Login``."""
    if _EMAIL.fullmatch(email):
        return "email"
    return "service" if _SERVICE_TOKEN.fullmatch(email) else "name" if email else ""


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_country(code: str) -> bool:
    return len(code) == _COUNTRY_CODE


def _anything(_: str) -> bool:
    return True


def glance_logins(rows: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], Sequence[str]]:
    """Return outcomes and users of logins; see ``forwarder.core.schema.Glance``."""
    outcomes = [_OUTCOMES[_boolean(row.get("allowed"))] for row in rows]
    users = [_text(row.get("user_email")) or _text(row.get("user_id")) for row in rows]
    return outcomes, users


_make = Login._make
_ip_version = lru_cache(_REMEMBERED)(_version)
_user_kind = lru_cache(_REMEMBERED)(_kind)
_NO_HOST = ("", ":")
_FITS = {"ip_address": lambda ip: _version(ip) != 0, "country": _is_country}
_OUTCOMES = {True: SUCCESS, False: FAILURE, None: UNKNOWN}

LOGINS = Normaliser(normalise_login, glance_logins)
"""How the rows of stream ``access_requests`` become events."""
