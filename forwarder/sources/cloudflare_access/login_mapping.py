"""Rows of the authentication log and groups of logins without identity as logins of the schema.

For the log there are two ways. ``normalise_login`` takes any row and makes a login of it.
``view_login`` takes usual rows only, reads just what a template needs and makes nothing: it is the
fast way, and what it says of a row must be what the login says (tests/formats/test_templates.py).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import product
from string import ascii_uppercase
from typing import Any

import orjson

from forwarder.core.masking import mask_row
from forwarder.core.schema import (
    FAILURE,
    LONGEST,
    MALFORMED_KEY,
    RAW_BYTES_KEY,
    SUCCESS,
    UNKNOWN,
    Bodies,
    Login,
    Normaliser,
    Origin,
    UsualRows,
    is_email,
)
from forwarder.core.timing import parse_us
from forwarder.core.usual_rows import LOGIN_ARGUMENTS, Summary
from forwarder.sources.cloudflare_access.row_layout import Layout, without_nulls

TEXTS = LOGIN_ARGUMENTS[:-3]
"""The keys of a row whose values are texts; host, path and url are made of ``app_domain``."""
KNOWN_KEYS = frozenset({*TEXTS, "allowed"})
"""The keys of a login that the common schema has a place for."""
LIVE_ONLY = frozenset({"user_id", "country", "app_name", "app_type"})
"""Keys that live rows have and Cloudflare does not document: a row without them is complete."""

_TOR, _UNKNOWN_COUNTRY = "T1", "XX"
"""What Cloudflare puts in the place of a country, and is none."""
COUNTRIES = frozenset(map("".join, product(ascii_uppercase, repeat=2))) - {_UNKNOWN_COUNTRY}
"""Country codes of the form of ISO 3166; which of them are given out changes."""

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = r"[0-9a-fA-F]{1,4}"
_GROUPS = rf"(?:{_GROUP}(?::{_GROUP})*+)?+"
_is_ipv4 = re.compile(r"\.".join([_OCTET] * 4)).fullmatch
_is_like_ipv6 = re.compile(rf"(?:{_GROUP}:){{7}}{_GROUP}|{_GROUPS}::{_GROUPS}").fullmatch
_COLONS_BETWEEN_EIGHT = 7
_LONGEST_ADDRESS = 40
_DIGITS = 5
"""Of a port."""
_is_address = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+").fullmatch
# A service token has no user; its Client ID has this form.
_is_service_token = re.compile(r"[0-9a-f]{32}\.access").fullmatch
_EMPTY: tuple[Any, ...] = ("", None)


def normalise_login(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in any row; see ``core.schema.Normalise``."""
    if not _NEVER_USUAL.isdisjoint(row):  # a login has no body, and nothing to mask
        row = mask_row(row)
    texts = {key: _text_of(key, row.get(key)) for key in TEXTS}
    allowed = _boolean(row.get("allowed"))
    known = {**texts, "allowed": allowed}
    texts["country"], network = _country(texts["country"])
    host, port, path, query, url = split_domain(texts["app_domain"])
    return Login(
        origin,
        id=id,
        time_us=time_us,
        row=row,
        quality=_quality(row, known),
        extra={
            key: value
            for key, value in row.items()
            if key not in known or (known[key] in _EMPTY and value not in _EMPTY)
        },
        host=host,
        path=path,
        url=url,
        port=port,
        query=query,
        network=network,
        allowed=allowed,
        ip_version=ip_version(texts["ip_address"]),
        user_kind=user_kind(texts["user_email"], texts["connection"]),
        login_count=None,
        sample_interval=None,
        **texts,
    )


def summarise_logins(rows: Sequence[Mapping[str, Any]], _: Bodies) -> Summary:
    """Return outcome and user of any rows; see ``core.schema.UsualRows``."""
    outcomes = [
        SUCCESS if allowed is True else FAILURE if allowed is False else UNKNOWN
        for allowed in [row.get("allowed") for row in rows]
    ]
    emails = [row.get("user_email") for row in rows]
    users = [
        email if email and email.__class__ is str else _text(row.get("user_id"))
        for email, row in zip(emails, rows, strict=True)
    ]
    return Summary(outcomes, users)


def ip_version(ip: str) -> int:
    """Return 4 or 6, or 0 for what is not an address (one with a zone is none here)."""
    if _is_ipv4(ip):
        return 4
    if _is_like_ipv6(ip) and ip.count(":") <= _COLONS_BETWEEN_EIGHT:
        return 6
    # The standard library knows the rare spellings, such as ::ffff:1.2.3.4, but takes ten times
    # as long, and much longer for a text that an attacker has made huge.
    try:
        return 0 if len(ip) > _LONGEST_ADDRESS or "%" in ip else ip_address(ip).version
    except ValueError:
        return 0


def user_kind(email: str, connection: str) -> str:
    """Return what the key ``user_email`` holds: see ``core.schema.Login``."""
    if is_email(email):
        return "email"
    if _is_service_token(email) or (email and connection == "nonidentity"):
        return "service"
    return "address" if _is_address(email) else "name" if email else ""


def split_domain(domain: str) -> tuple[str, int | None, str, str, str]:
    """Return host, port, path with its slash, query and URL of ``host:port/path?query``.

    A scheme is left out: Access protects applications by HTTPS.
    """
    # Only a scheme has its colon right before a slash; a port has digits between.
    if domain.partition("/")[0].endswith(":"):
        domain = domain.partition("//")[2]
    place, _, query = domain.partition("?")
    host, slash, path = place.partition("/")
    host, colon, digits = host.partition(":")
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS else None
    # A wildcard is a pattern of applications, and no address.
    url = "https://" + domain if host and "*" not in domain else ""
    return (host if port or not colon else host + colon + digits), port, slash + path, query, url


def _country(code: str) -> tuple[str, str]:
    """Return the country, and the network that stands in its place."""
    return (code, "") if code in COUNTRIES else ("", "tor" if code == _TOR else "")


def _quality(row: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys whose value is missing or not what the key promises."""
    if MALFORMED_KEY in row:
        return ("malformed",)
    faults = [
        key
        for key, value in known.items()
        if value in _EMPTY and (key not in LIVE_ONLY or row.get(key) not in _EMPTY)
    ]
    if parse_us(known["created_at"]) is None:
        faults = ["time", *(key for key in faults if key != "created_at")]
    return tuple(faults)


def _text_of(key: str, value: Any) -> str:
    """Return ``value`` if it is what ``key`` promises, else nothing."""
    text = _text(value)
    if key == "ip_address":
        return text if ip_version(text) else ""
    if key == "country":
        code = text.upper()
        return code if code in COUNTRIES or code in {_TOR, _UNKNOWN_COUNTRY} else ""
    return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


# Logins without identity: a row is a group of them (``non_identity``).

_OF_GROUP = {
    "datetime": "created_at",
    "ipAddress": "ip_address",
    "appId": "app_uid",
    "identityProvider": "connection",
    "cfRayId": "ray_id",
    "country": "country",
    "userUuid": "user_id",
}
"""Keys of a group, and what the authentication log calls the same."""
_TAKEN = frozenset({*_OF_GROUP, "isSuccessfulLogin", "count", "sampleInterval"})
_MOST = 2**31 - 1
"""Of numbers: what the integers of OCSF and of Sentinel's columns hold."""
_SERVICES = ("serviceTokenId", "mtlsCommonName")
"""Keys of a group that name what logged in; they are in ``extra``, too, which tells them apart."""


def normalise_group(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the logins in a group as one; see ``core.schema.Normalise``."""
    row = mask_row(row)
    known = {name: row.get(key) for key, name in _OF_GROUP.items()}
    named = next(filter(None, (_text(row.get(key)) for key in _SERVICES)), "")
    login = normalise_login(known | {"user_email": named, "action": "login"}, origin, id, time_us)
    result, count, interval = map(row.get, ("isSuccessfulLogin", "count", "sampleInterval"))
    allowed = {0: False, 1: True}.get(result) if isinstance(result, int) else None
    # An empty value says nothing and is no fault: a group has all dimensions, whatever it is about.
    odd = [key for key, name in _OF_GROUP.items() if not _fits(name, known[name])]
    odd += [] if allowed is not None else ["isSuccessfulLogin"]
    odd += [] if type(count) is int and 0 < count <= _MOST else ["count"]
    sampled = interval is None or (type(interval) in {int, float} and 0 <= interval <= _MOST)
    odd += [] if sampled else ["sampleInterval"]
    timeless = ["time"] if parse_us(known["created_at"]) is None else []
    quality = (*timeless, *(key for key in odd if key != "datetime"))
    return login._replace(
        row=row,
        quality=("malformed",) if MALFORMED_KEY in row else quality,
        extra={
            key: value
            for key, value in row.items()
            if (key in odd or key not in _TAKEN) and value not in _EMPTY
        },
        allowed=allowed,
        login_count=None if "count" in odd else count,
        sample_interval=None if "sampleInterval" in odd else interval,
    )


def _fits(key: str, value: Any) -> bool:
    return value in _EMPTY or _text_of(key, value) != ""


# The fast way.

_NOT_USUAL: tuple[None, tuple[str, ...], str] = (None, (), "")
_NEVER_USUAL = frozenset({MALFORMED_KEY, RAW_BYTES_KEY, "request_body"})
"""Keys of rows that are more than a login, or have to be masked."""
_SPECIAL = frozenset('"\\=|')
"""What JSON, CEF or LEEF escapes, beside what cannot be printed."""
_LONGEST_USER = 63
"""Characters of a name: LEEF has room for 255 bytes of a user; an e-mail address is never longer.
"""


def view_login(
    row: Mapping[str, Any],
    time_us: int,
    seen_us: int,
    _: Bodies,
) -> tuple[Hashable, tuple[str, ...], str]:
    """Return the ``core.usual_rows.RowView`` of a row; the busiest function of all.

    A row is usual if it has a result, a time of its own and an address, no value is of a wrong
    kind, and no text needs escaping or cutting. Texts may be missing, and keys may be new.
    """
    # With as many keys as are known a row has those, or taking its texts out fails.
    layout = _COMPLETE if len(row) == len(KNOWN_KEYS) else _layout_of(tuple(row))
    try:
        texts = layout.texts_of(row)
        # The cheapest proof that all are texts: a null or a number raises.
        together = "".join(texts)
    except (KeyError, TypeError):
        layout = _layout_of(tuple(row))
        texts = without_nulls(layout.texts_of(row))
        together = "".join(texts)
    created_at, ip, email, domain, _, action, connection, _, country, _, _, _ = texts
    version = 4 if _is_ipv4(ip) else ip_version(ip)
    kind = "email" if is_email(email) else _short_kind(email, connection)
    if (
        not (layout.usual and version and created_at and kind is not None)
        # A row without a usable time has been given the time at which it was first seen.
        or time_us == seen_us
        or (allowed := row.get("allowed")).__class__ is not bool
        or not is_plain(together, LONGEST)
    ):
        return _NOT_USUAL
    network = ""
    if country not in COUNTRIES and country:
        texts, network = _with_country(texts, country.upper())
    place = _place_of(domain)
    if not texts or place is None:
        return _NOT_USUAL
    kind_of_place, parts = place
    odd = layout.odd if all(texts) else layout.odd_of(texts)
    shape = (allowed, action, connection, version, kind, kind_of_place, network, odd)
    return shape, texts + parts, layout.extra_of(row) if layout.extra_of else ""


@lru_cache(1024)
def _place_of(domain: str) -> tuple[Hashable, tuple[str, str, str]] | None:
    """Return what a plain ``app_domain`` adds to a shape, and host, path and URL.

    None for a scheme, a port or a query: a template has no place for them.
    """
    host, _, path, _, url = split_domain(domain)
    if ":" in domain or "?" in domain or (path and not host):
        return None
    return (path != "", url != ""), (host, path, url)


@lru_cache(64)
def _layout_of(keys: tuple[str, ...]) -> Layout:
    usual = "allowed" in keys and _NEVER_USUAL.isdisjoint(keys)
    return Layout.of(keys, TEXTS, KNOWN_KEYS, usual=usual)


_COMPLETE = _layout_of((*TEXTS, "allowed"))


def _short_kind(email: str, connection: str) -> str | None:
    """Return the kind of a user without a usual address, None for a name that is too long."""
    return None if len(email) > _LONGEST_USER else user_kind(email, connection)


def _with_country(texts: tuple[str, ...], code: str) -> tuple[tuple[str, ...], str]:
    """Return ``texts`` with this country, and the network; nothing if it is neither."""
    if code not in COUNTRIES and code not in {_TOR, _UNKNOWN_COUNTRY}:
        return (), ""
    country, network = _country(code)
    at = TEXTS.index("country")
    return (*texts[:at], country, *texts[at + 1 :]), network


def is_plain(text: str, most: int) -> bool:
    """Return True if ``text`` stands for itself in every format and has ``most`` bytes at most."""
    if text.isascii():
        # JSON is longer than a text by more than its quotes if it escapes something. DEL it leaves
        # alone, and the lines of CEF and LEEF do not.
        return (
            len(text) <= most
            and len(orjson.dumps(text)) == len(text) + len('""')
            and not ("=" in text or "|" in text or "\x7f" in text)
        )
    # What cannot be printed includes lone surrogates, which cannot be encoded.
    return text.isprintable() and not _SPECIAL.intersection(text) and len(text.encode()) <= most


_USUAL = UsualRows(view_login, summarise_logins, has_bodies=False)
LOGINS = Normaliser(normalise_login, KNOWN_KEYS, _USUAL)
"""How the rows of stream ``access_requests`` become events."""
GROUPS = Normaliser(normalise_group, _TAKEN | frozenset(_SERVICES))
"""How the rows of stream ``non_identity_logins`` become events."""
