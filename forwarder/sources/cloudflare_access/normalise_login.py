"""Rows of the authentication log (``access_requests``) as events of the common schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import product, repeat
from operator import itemgetter
from string import ascii_uppercase, digits
from types import MappingProxyType
from typing import Any, cast

from forwarder.core.login import (
    FAILURE,
    LOGIN_TEXTS,
    SUCCESS,
    UNKNOWN,
    Login,
    is_email,
)
from forwarder.core.masking import mask_row
from forwarder.core.origin import Origin, is_plain
from forwarder.core.schema import MALFORMED_KEY, Glimpse, Normaliser
from forwarder.core.timestamps import parse_us

_KNOWN = frozenset({*LOGIN_TEXTS, "allowed"})
_KEY_COUNT = len(_KNOWN)
_LIVE_ONLY = frozenset({"user_id", "country", "app_name", "app_type"})
"""Keys that are not documented; their absence is no fault of a row."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_COUNTRIES = frozenset(map("".join, product(ascii_uppercase + digits, repeat=2)))
"""Codes as they are in ISO 3166, and Cloudflare's own (T1 is Tor, XX is unknown)."""
_texts_of = itemgetter(*LOGIN_TEXTS)
_email_of, _allowed_of = itemgetter("user_email"), itemgetter("allowed")

_SERVICE_TOKEN = re.compile(r"[0-9a-f]{32}\.access")
_LONGEST_ADDRESS, _LONGEST_USER, _SHORT = 40, 254, 1000
"""In characters: an address, a user, all texts of a row that no format has to cut."""
_REMEMBERED = 4096


def normalise_login(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in ``row``; see ``forwarder.core.schema.Normalise``.

    This runs for every row, so the row that has each key, no other and in each what we expect
    takes a short way; any other is sorted out with care. Both ways give the same event.
    """
    try:
        texts = _texts_of(row)
        together, allowed = "".join(texts), row["allowed"]
    except (KeyError, TypeError):
        return _sort_out(row, origin, id, time_us)
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
        or not (plain or is_plain(together))
    ):
        return _sort_out(row, origin, id, time_us)
    shape = (
        account_id,
        account,
        allowed,
        action,
        connection,
        version,
        kind,
        len(texts),
    )
    fields = (origin, id, time_us, row, texts, allowed, version, kind, (), _NOTHING, shape)
    return _new(Login, fields)


def _sort_out(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in any row, whatever it holds."""
    row = mask_row(row)
    found, extra, quality = _sift(row)
    together, texts = "".join(found.values()), (*found.values(), *_split(found["app_domain"]))
    version, kind = _version(found["ip_address"]), _kind(found["user_email"])
    allowed, shape = _boolean(row.get("allowed")), None
    if (
        len(together) <= _SHORT
        and len(found["user_email"]) <= _LONGEST_USER
        and (origin.plain or is_plain(together))
    ):
        usual = not quality and not extra and "" not in texts
        shape = (
            origin.account_id,
            origin.account,
            allowed,
            found["action"],
            found["connection"],
            version,
            kind,
            len(texts),
            *(() if usual else (quality, bool(extra), *map(bool, texts))),
        )
    return Login(
        origin, id, time_us, row, texts, allowed, version, kind, quality, extra or _NOTHING, shape
    )


def _sift(
    row: Mapping[str, Any],
) -> tuple[dict[str, str], Mapping[str, Any], tuple[str, ...]]:
    """Return the texts of ``row``, what does not fit the schema, and the quality."""
    extra = {key: value for key, value in row.items() if key not in _KNOWN}
    texts, faults = {}, []
    for key in LOGIN_TEXTS:
        value = row.get(key)
        texts[key] = value if isinstance(value, str) and _FITS.get(key, _anything)(value) else ""
        if value not in (None, "") and not texts[key]:
            extra[key] = value
            faults.append(key)
        elif not value and key not in _LIVE_ONLY:
            faults.append(key)
    if _boolean(row.get("allowed")) is None:
        faults.append("allowed")
        extra |= {"allowed": row["allowed"]} if row.get("allowed") is not None else {}
    if parse_us(texts["created_at"]) is None:
        faults = ["time", *(key for key in faults if key != "created_at")]
    texts["country"] = texts["country"].upper()
    return texts, extra, ("malformed",) if MALFORMED_KEY in row else tuple(faults)


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
    return _kind(email) if len(email) <= _LONGEST_USER else ""


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


_new = cast("Callable[[type[Login], tuple[Any, ...]], Login]", tuple.__new__)
"""Makes a login of its fields without the checks of a call; this is the busiest line here."""
_FITS: dict[str, Callable[[str], bool]] = {
    "ip_address": lambda ip: _version(ip) != 0,
    "country": lambda code: code.upper() in _COUNTRIES,
}
_OUTCOMES = {True: SUCCESS, False: FAILURE, None: UNKNOWN}

LOGINS = Normaliser(normalise_login, glance_logins)
"""How the rows of stream ``access_requests`` become events."""
