"""What single values of a login's row are: addresses, users, countries, domains.

Nothing is remembered: these texts are chosen by whoever tries to log in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from itertools import product
from string import ascii_uppercase, digits

from forwarder.core.login import is_email

COUNTRIES = frozenset(map("".join, product(ascii_uppercase + digits, repeat=2)))
"""Country codes: ISO 3166, and Cloudflare's own (T1 is Tor, XX is unknown)."""

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = r"[0-9a-fA-F]{1,4}"
_GROUPS = rf"(?:{_GROUP}(?::{_GROUP})*+)?+"
_IPV4 = r"\.".join([_OCTET] * 4)
_IPV6 = rf"(?:{_GROUP}:){{7}}{_GROUP}|{_GROUPS}::{_GROUPS}"
is_ipv4 = re.compile(_IPV4).fullmatch
"""Says whether a text is an IPv4 address (a match, or None)."""
_is_like_ipv6 = re.compile(_IPV6).fullmatch
_is_addresses = re.compile(rf"(?:(?:{_IPV4}|(?!(?:[^:\n]*+:){{8}})(?:{_IPV6}))\n)*+").fullmatch
_COLONS_BETWEEN_EIGHT = 7
_LONGEST_ADDRESS = 40
_SERVICE_TOKEN = re.compile(r"[0-9a-f]{32}\.access")


def ip_version(ip: str) -> int:
    """Return 4 or 6, or 0 for what is no address (one with a zone is none here).

    Agrees with the standard library's parser, which is asked for rare spellings only.
    """
    return 4 if is_ipv4(ip) else ip_version_but_4(ip)


def ip_version_but_4(ip: str) -> int:
    """Return the same for what is no IPv4 address."""
    if _is_like_ipv6(ip) and ip.count(":") <= _COLONS_BETWEEN_EIGHT:
        return 6
    try:
        return 0 if len(ip) > _LONGEST_ADDRESS or "%" in ip else ip_address(ip).version
    except ValueError:
        return 0


def are_addresses(texts: Iterable[str]) -> bool:
    """Say whether each of ``texts``, which have no line ends, is an address as mostly spelled.

    Such a one is of version 6 if it has a colon.
    """
    return _is_addresses("\n".join((*texts, ""))) is not None


def user_kind(email: str) -> str:
    """Return what the key ``user_email`` holds: see ``forwarder.core.login.LoginShape``."""
    if is_email(email):
        return "email"
    return "service" if _SERVICE_TOKEN.fullmatch(email) else "name" if email else ""


def is_country(code: str) -> bool:
    """Say whether ``code`` is a country's, in capitals or not."""
    return code.upper() in COUNTRIES


def split_domain(domain: str) -> tuple[str, ...]:
    """Return host and path of ``host/path``, nothing if there is no path; a scheme is left out."""
    host, slash, path = domain.partition("/")
    if host[-1:] == ":" and path[:1] == "/":
        host, _, path = path[1:].partition("/")
    return (host, path) if slash else ()
