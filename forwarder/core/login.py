"""A login in the common schema, and where an event came from.

What an e-mail address is, as OCSF understands it.

Where a row comes from: what all rows of one page share.

A login: one row of the authentication log, in the common schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from forwarder.core.contracts import StoredPage

_EMAIL = r"[a-zA-Z0-9!#$%&'*+,\-./=?^_`{|}~]{1,64}+@[a-zA-Z0-9-]{1,63}+\.[a-zA-Z0-9-.]{1,125}+"
_are_lines = re.compile(f"(?:{_EMAIL}\n)*+").fullmatch

is_email = re.compile(_EMAIL).fullmatch
"""Says whether a text is an e-mail address (a match, or None)."""


def are_emails(texts: Iterable[str]) -> bool:
    """Say whether each of ``texts``, which have no line ends, is one; quicker than one by one."""
    return _are_lines("\n".join((*texts, ""))) is not None


LONGEST_USER, SHORT = 254, 1000
"""In bytes, of a user and of all texts of a row: no format has to cut what is no longer."""

_SPECIAL = frozenset('"\\=|')
_PLAIN_ASCII = bytes(code for code in range(0x20, 0x7F) if chr(code) not in _SPECIAL)


class Origin(NamedTuple):
    """What all rows of one page share.

    ``account`` is the account's label, ``seen_us`` when the page was first seen. ``plain`` says
    that no text in its rows needs escaping or cleaning in any format (see ``is_plain``) and that
    each row had a usable time; False says nothing.
    """

    account_id: str
    account: str
    stream: str
    seen_us: int
    plain: bool = False


def origin_of(page: StoredPage, account: str) -> Origin:
    """Return what the rows of ``page`` share; ``account`` is the label of its account."""
    plain = page.seen_us not in page.times_us and _is_plain_body(page.body)
    return Origin(page.account_id, account, page.stream, page.seen_us, plain)


def is_plain(text: str) -> bool:
    r"""Say whether ``text`` stands for itself in every format.

    It does when all is printable and none of ``"``, ``\``, ``=`` and ``|`` is in it.
    """
    if text.isascii():
        return not text.encode().translate(None, _PLAIN_ASCII)
    return text.isprintable() and not _SPECIAL & set(text)


def is_easy(together: str, user: str, *, timed: bool) -> bool:
    """Say of a row what ``Origin.plain`` says of a page, and that no format has to cut a text.

    ``together`` is all its texts, ``user`` the one that names the user; ``timed`` says that the
    row has a usable time.
    """
    if not timed or len(together) > SHORT or len(user) > LONGEST_USER or not is_plain(together):
        return False
    return together.isascii() or (
        len(together.encode()) <= SHORT and len(user.encode()) <= LONGEST_USER
    )


def are_easy(together: Sequence[str], *, plain: bool) -> bool:
    """Say of a page's rows what ``is_easy`` says of one, but for its time and its user.

    ``together`` is all texts of each row; ``plain`` is ``Origin.plain``.
    """
    return (plain or is_plain("".join(together))) and longest(together) <= SHORT


def longest(texts: Sequence[str]) -> int:
    """Return the bytes of the longest of ``texts``, in UTF-8, which has to be able to hold them."""
    plain = "".join(texts).isascii()
    return max(map(len, texts if plain else map(str.encode, texts)), default=0)


def _is_plain_body(body: bytes) -> bool:
    r"""Say whether each text of a JSON document is plain, quickly and without a false yes.

    JSON writes quotes, control characters and ``\`` with a ``\``; so none of those is in any text
    when there is no ``\`` at all.
    """
    return (
        b"\\" not in body
        and b"=" not in body
        and b"|" not in body
        and b"\x7f" not in body
        and body.isascii()
    )


SUCCESS = "success"
FAILURE = "failure"
UNKNOWN = "unknown"

CONNECTIONS: Mapping[str, str] = {
    "azureAD": "openid",
    "centrify": "openid",
    "cloudflare": "openid",
    "facebook": "oauth",
    "github": "oauth",
    "google": "oauth",
    "google-apps": "oauth",
    "linkedin": "oauth",
    "nonidentity": "other",
    "oidc": "openid",
    "okta": "openid",
    "onelogin": "openid",
    "onetimepin": "other",
    "pingone": "openid",
    "saml": "saml",
    "yandex": "oauth",
}
"""Kinds of identity provider, and the protocol behind each."""

LOGIN_TEXTS = (
    "created_at",
    "ip_address",
    "user_email",
    "app_domain",
    "app_uid",
    "action",
    "connection",
    "ray_id",
    "country",
    "user_id",
    "app_name",
    "app_type",
)
"""The keys of a row whose values are texts, the documented first: the order of ``Login.texts``."""


@dataclass(frozen=True, slots=True)
class Oddities:
    """What is unusual about a login or a change: see ``Login.quality`` and ``Login.extra``.

    ``present`` says of each text whether there is one; ``plain`` is False where a text might need
    escaping or cutting in some format. ``hashed`` is the hash of the rest. Made by ``oddities``.
    """

    quality: tuple[str, ...]
    has_extra: bool
    present: tuple[bool, ...]
    plain: bool
    hashed: int = field(compare=False, repr=False)

    def __hash__(self) -> int:
        """Return what was reckoned once: templates are looked up by it for every row."""
        return self.hashed


@lru_cache(1024)
def oddities(
    quality: tuple[str, ...], present: tuple[bool, ...], *, has_extra: bool, plain: bool
) -> Oddities:
    """Return what says this; the same object for what comes often, which compares the fastest."""
    hashed = hash((quality, has_extra, present, plain))
    return Oddities(quality, has_extra, present, plain, hashed)


class LoginShape(NamedTuple):
    """What kind of login it is: all that a format may branch on.

    Action and connection are the tenant's choice, not of who logs in. ``allowed`` is None
    when the row does not say; ``ip_version`` is 4, 6 or 0 (no address); ``user_kind`` says what
    ``user_email`` is: ``email``, ``service`` (a service token's id), ``name`` or empty. ``texts``
    counts the texts, ``odd`` is None for a login as it should be.
    """

    allowed: bool | None
    action: str
    connection: str
    ip_version: int
    user_kind: str
    texts: int
    odd: Oddities | None = None


class Login(NamedTuple):
    """One row of the authentication log.

    ``id`` is 32 hex digits, ``time_us`` when it happened. ``texts`` has the texts of
    ``LOGIN_TEXTS``, empty where the row has none, and, where ``app_domain`` has a path, the host
    and what follows its slash. ``shape`` is a ``LoginShape``, or a tuple equal to one.
    """

    origin: Origin
    id: str
    time_us: int
    row: Mapping[str, Any]
    texts: tuple[str, ...]
    shape: tuple[Any, ...]

    @property
    def facts(self) -> LoginShape:
        """Return the shape with names."""
        return LoginShape._make(self.shape)

    @property
    def allowed(self) -> bool | None:
        """Return the result, None when the row does not say."""
        return self.facts.allowed

    @property
    def ip_version(self) -> int:
        """Return 4, 6 or 0."""
        return self.facts.ip_version

    @property
    def user_kind(self) -> str:
        """Return ``email``, ``service``, ``name`` or nothing."""
        return self.facts.user_kind

    @property
    def quality(self) -> tuple[str, ...]:
        """Return the keys at fault, or ``time`` or ``malformed``."""
        odd = self.facts.odd
        return odd.quality if odd else ()

    @property
    def extra(self) -> Mapping[str, Any]:
        """Return what the schema does not know, and values that are not what their key promises."""
        if self.facts.odd is None:
            return {}
        known = dict(zip(LOGIN_TEXTS, self.texts, strict=False)) | {"allowed": self.allowed}
        return {
            key: value
            for key, value in self.row.items()
            if key not in known or (known[key] in ("", None) and value not in ("", None))
        }

    @property
    def country(self) -> str:
        """Return the two characters of ISO 3166 (or Cloudflare's own T1 and XX), in capitals."""
        return self.texts[8]

    @property
    def created_at(self) -> str:
        """Return the time as the row has it."""
        return self.texts[0]

    @property
    def ip_address(self) -> str:
        """Return an IPv4 or IPv6 address."""
        return self.texts[1]

    @property
    def user_email(self) -> str:
        """Return what names the user: mostly an e-mail address, of a service token its id."""
        return self.texts[2]

    @property
    def user_id(self) -> str:
        """Return Cloudflare's id of the user."""
        return self.texts[9]

    @property
    def app_domain(self) -> str:
        """Return the application's host, with a path or without."""
        return self.texts[3]

    @property
    def app_name(self) -> str:
        """Return the application's name."""
        return self.texts[10]

    @property
    def app_uid(self) -> str:
        """Return the application's id."""
        return self.texts[4]

    @property
    def app_type(self) -> str:
        """Return the application's type, as ``self_hosted``."""
        return self.texts[11]

    @property
    def action(self) -> str:
        """Return what was attempted: ``login``, ``logout`` or something newer."""
        return self.texts[5]

    @property
    def connection(self) -> str:
        """Return the kind or name of the identity provider."""
        return self.texts[6]

    @property
    def ray_id(self) -> str:
        """Return the id of the request; several rows may have the same."""
        return self.texts[7]

    @property
    def host(self) -> str:
        """Return the host in ``app_domain``."""
        return self.texts[-2] if self.has_path else self.app_domain

    @property
    def path(self) -> str:
        """Return the path in ``app_domain`` with its slash, or nothing."""
        return f"/{self.texts[-1]}" if self.has_path else ""

    @property
    def has_path(self) -> bool:
        """Say whether ``app_domain`` has a path."""
        return len(self.texts) > len(LOGIN_TEXTS)

    @property
    def outcome(self) -> str:
        """Return ``success``, ``failure`` or ``unknown``."""
        return UNKNOWN if self.allowed is None else SUCCESS if self.allowed else FAILURE

    @property
    def fillings(self) -> tuple[str, ...]:
        """Return what goes into a template: the texts."""
        return self.texts

    @property
    def user(self) -> str:
        """Return whom it is about: e-mail address, token id or user id, or nothing."""
        return self.user_email or self.user_id
