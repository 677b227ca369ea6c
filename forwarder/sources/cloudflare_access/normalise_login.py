"""Rows of the authentication log (``access_requests``) as events of the common schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import product, repeat
from operator import itemgetter
from string import ascii_uppercase, digits
from typing import Any

from forwarder.core.login import (
    FAILURE,
    LOGIN_TEXTS,
    SUCCESS,
    UNKNOWN,
    Login,
    LoginShape,
    Oddities,
    is_email,
)
from forwarder.core.masking import mask_row
from forwarder.core.origin import Origin, is_plain
from forwarder.core.schema import MALFORMED_KEY, Glimpse, Normaliser, Reading
from forwarder.core.timestamps import parse_us

_KNOWN = frozenset({*LOGIN_TEXTS, "allowed"})
_KEY_COUNT = len(_KNOWN)
_LIVE_ONLY = frozenset({"user_id", "country", "app_name", "app_type"})
"""Keys that are not documented; their absence is no fault of a row."""
_COUNTRIES = frozenset(map("".join, product(ascii_uppercase + digits, repeat=2)))
"""Codes as they are in ISO 3166, and Cloudflare's own (T1 is Tor, XX is unknown)."""
_texts_of = itemgetter(*LOGIN_TEXTS)
_email_of, _allowed_of = itemgetter("user_email"), itemgetter("allowed")

_SERVICE_TOKEN = re.compile(r"[0-9a-f]{32}\.access")
_LONGEST_ADDRESS, _LONGEST_USER, _SHORT = 40, 254, 1000
"""In bytes: an address, a user, all texts of a row; none longer than these is cut by a format."""
_REMEMBERED = 4096


def read_login(row: Mapping[str, Any], origin: Origin, time_us: int) -> Reading | None:
    """Return shape and texts of the row that is as it should be; see ``core.schema.Read``.

    Such a row has each key, no other, and in each what we expect. This runs for every row.
    """
    try:
        texts = _texts_of(row)
        together, allowed = "".join(texts), row["allowed"]
    except (KeyError, TypeError):
        return None
    country, _, ip, email, _, domain, _, _, _, action, connection, _ = texts
    account_id, account, _, seen_us, plain = origin
    if "/" in domain:
        texts = (*texts, *_split(domain))
    if (
        len(row) != _KEY_COUNT
        or allowed.__class__ is not bool
        or "" in texts
        or len(together) > _SHORT
        or country not in _COUNTRIES
        or not (version := _ip_version(ip))
        or not (kind := _short_kind(email))
        or time_us == seen_us
        or not (plain or _is_short_plain(together))
    ):
        return None
    return (
        (account_id, account, allowed, action, connection, version, kind, len(texts), None),
        texts,
    )


def normalise_login(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in ``row``; see ``core.schema.Normalise``."""
    reading = read_login(row, origin, time_us)
    if reading is None:
        return _sort_out(row, origin, id, time_us)
    shape, texts = reading
    return Login(origin, id, time_us, row, texts, shape)


def _sort_out(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in any row, whatever it holds."""
    row = mask_row(row)
    found, quality, has_extra = _sift(row)
    together, texts = "".join(found.values()), (*found.values(), *_split(found["app_domain"]))
    plain = len(together) <= _SHORT and (origin.plain or _is_short_plain(together))
    plain = plain and _is_short_user(found["user_email"])
    shape = LoginShape(
        origin.account_id,
        origin.account,
        _boolean(row.get("allowed")),
        found["action"],
        found["connection"],
        _version(found["ip_address"]),
        _kind(found["user_email"]),
        len(texts),
    )
    if quality or has_extra or not plain or "" in texts:
        shape = shape._replace(odd=Oddities(quality, has_extra, tuple(map(bool, texts)), plain))
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


def _split(domain: str) -> tuple[str, ...]:
    """Return host and path of ``host/path``, nothing if there is no path; a scheme is left out."""
    host, slash, path = domain.partition("/")
    if host[-1:] == ":" and path[:1] == "/":
        host, slash, path = path[1:].partition("/")
    return (host, path) if slash else ()


def _version(ip: str) -> int:
    """Return 4 or 6, or 0 for what is no address (one with a zone is none here)."""
    try:
        return 0 if len(ip) > _LONGEST_ADDRESS or "%" in ip else ip_address(ip).version
    except ValueError:
        return 0


def _kind(email: str) -> str:
    """Return what the key ``user_email`` holds: see ``forwarder.core.login.Login``."""
    if is_email(email):
        return "email"
    return "service" if _SERVICE_TOKEN.fullmatch(email) else "name" if email else ""


_ip_version = lru_cache(_REMEMBERED)(_version)


@lru_cache(_REMEMBERED)
def _short_kind(email: str) -> str:
    """Return the same for users that no format has to cut, otherwise nothing."""
    return _kind(email) if _is_short_user(email) else ""


def _is_short_user(email: str) -> bool:
    return len(email.encode("utf-8", "replace")) <= _LONGEST_USER


def _is_short_plain(together: str) -> bool:
    return is_plain(together) and len(together.encode()) <= _SHORT


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


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
    "ip_address": lambda ip: _version(ip) != 0,
    "country": lambda code: code.upper() in _COUNTRIES,
}
_OUTCOMES = {True: SUCCESS, False: FAILURE, None: UNKNOWN}

LOGINS = Normaliser(normalise_login, glance_logins, read_login)
"""How the rows of stream ``access_requests`` become events."""
