"""A login: one row of the authentication log, in the common schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from forwarder.core.origin import Origin

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
