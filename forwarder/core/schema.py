"""The common schema: what happened, in three kinds of event that every format understands.

    Login         somebody logged in to an application, or was refused      (``access_requests``)
    Provisioning  an identity provider changed a user or a group by SCIM    (``scim_updates``)
    OwnEvent      the forwarder itself: start, stop, gap, late rows, ...    (``forwarder``)

A *text* is a ``str`` that is never None: empty means that the row has none. A value that is not
what its key promises is kept as received in ``extra`` and its key is named in ``quality``; nothing
is ever guessed. Where the row has no usable time, ``quality`` has ``time`` and the event has the
time it was first seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from forwarder.core.model import StoredPage

SUCCESS = "success"
FAILURE = "failure"
UNKNOWN = "unknown"

MALFORMED_KEY = "_forwarder_malformed"
"""In a row that could not be read: why. Such an event has the quality ``malformed``."""
RAW_BYTES_KEY = "_forwarder_raw_base64"
"""In a row that could not be read: the bytes as received, base64."""

LOGIN_ACTIONS = frozenset({"login", "logout"})
"""The actions that formats may tell apart; any other is passed on as it is."""

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
"""Kinds of identity provider and the protocol behind each; formats may tell these apart."""


class Origin(NamedTuple):
    """What all rows of one page share.

    ``account`` is the account's label, ``seen_us`` when the page was first seen. ``plain`` says
    that no text in its rows needs escaping or cleaning in any format (see ``is_plain``); False
    says nothing.
    """

    account_id: str
    account: str
    stream: str
    seen_us: int
    plain: bool = False


class Login(NamedTuple):
    """One row of the authentication log.

    ``id`` is 32 hex digits, ``time_us`` when it happened. ``allowed`` is None when the row does
    not say. ``host`` and ``path`` are the parts of ``app_domain``, ``country`` is in capitals,
    ``ip_version`` is 4, 6 or 0 (no address). ``user_kind`` says what ``user_email`` holds:
    ``email``, ``service`` (a service token's id), ``name`` or nothing. ``extra`` holds what the
    schema does not know, ``extra_text`` the same as JSON members without braces.

    ``shape`` is what a format may branch on; two logins of one shape differ in texts only. It is
    None where a text might need escaping or cutting.
    """

    origin: Origin
    id: str
    time_us: int
    row: Mapping[str, Any]
    allowed: bool | None
    ip_version: int
    user_kind: str
    quality: tuple[str, ...]
    extra: Mapping[str, Any]
    extra_text: str
    shape: tuple[Any, ...] | None
    host: str
    path: str
    country: str
    created_at: str
    ip_address: str
    user_email: str
    user_id: str
    app_domain: str
    app_name: str
    app_uid: str
    app_type: str
    action: str
    connection: str
    ray_id: str

    @property
    def outcome(self) -> str:
        """Return ``success``, ``failure`` or ``unknown``."""
        return UNKNOWN if self.allowed is None else SUCCESS if self.allowed else FAILURE

    @property
    def user(self) -> str:
        """Return whom it is about: e-mail address, token id or user id, or nothing."""
        return self.user_email or self.user_id


class Member(NamedTuple):
    """A member named in the body of a group's change: its id and, where sent, its name."""

    value: str
    display: str = ""


class Provisioning(NamedTuple):
    """One row of the SCIM log.

    ``resource`` is ``user``, ``group`` or empty; ``activity`` is ``create``, ``update``,
    ``delete``, ``enable``, ``disable``, ``add_member``, ``remove_member`` or empty, read out of
    method and body. ``outcome`` comes from ``status``. ``request_body`` is masked, and so is
    the one in ``row``.
    """

    origin: Origin
    id: str
    time_us: int
    row: Mapping[str, Any]
    resource: str
    activity: str
    outcome: str
    members: tuple[Member, ...]
    quality: tuple[str, ...]
    extra: Mapping[str, Any]
    logged_at: str
    method: str
    resource_type: str
    user_email: str
    group_name: str
    cf_resource_id: str
    idp_resource_id: str
    idp_id: str
    status: str
    error_description: str
    request_body: str

    @property
    def action(self) -> str:
        """Return what was done, for filters: the activity, else the method in small letters."""
        return self.activity or self.method.lower()

    @property
    def user(self) -> str:
        """Return whom or what it is about: e-mail address, group or id, or nothing."""
        return self.user_email or self.group_name or self.cf_resource_id


class OwnEvent(NamedTuple):
    """Something the forwarder says about itself; see ``forwarder.core.own_events``.

    ``about_stream`` and ``about_sink`` say which stream and sink it is about; ``since`` and
    ``until`` are RFC 3339, ``rows`` is None when nobody knows.
    """

    origin: Origin
    id: str
    time_us: int
    row: Mapping[str, Any]
    action: str
    outcome: str
    quality: tuple[str, ...]
    extra: Mapping[str, Any]
    about_stream: str
    about_sink: str
    reason: str
    since: str
    until: str
    rows: int | None
    detail: str
    version: str

    @property
    def user(self) -> str:
        """Return nothing: it is about no person."""
        return ""


Event: TypeAlias = Login | Provisioning | OwnEvent

Normalise: TypeAlias = Callable[[Mapping[str, Any], Origin, str, int], Event]
"""From (row, origin, id as 32 hex digits, time in microseconds) to an event. Pure and total."""

Glance: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], tuple[Sequence[str], Sequence[str]]]
"""From rows to their outcomes and users: exactly what the events would say, without the events."""


class Normaliser(NamedTuple):
    """How the rows of one stream become events; a source has one a stream."""

    normalise: Normalise
    glance: Glance


def origin_of(page: StoredPage, account: str) -> Origin:
    """Return what the rows of ``page`` share; ``account`` is the label of its account."""
    plain = _is_plain_body(page.body)
    return Origin(page.account_id, account, page.stream, page.seen_us, plain)


def is_plain(text: str) -> bool:
    r"""Say whether ``text`` stands for itself in every format.

    It does when all is printable and none of ``"``, ``\``, ``=`` and ``|`` is in it.
    """
    return (
        text.isprintable()
        and '"' not in text
        and "\\" not in text
        and "=" not in text
        and "|" not in text
    )


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
