"""The common schema: what happened, in five kinds of event that every format understands.

    Login          somebody logged in to an application, or was refused      (``access_requests``)
    Provisioning   an identity provider changed a user or a group by SCIM    (``scim_updates``)
    AdminActivity  somebody changed the account, or logged in to change it   (``account_audit``)
    Traffic        a request or a network session that passed Access         (pushed datasets)
    OwnEvent       the forwarder itself: start, stop, gap, late rows, ...    (``forwarder``)

A *text* is a ``str`` that is never None: empty means that the row has none. A value that is not
what its key promises is kept as received in ``extra``, and its key is named in ``quality``; nothing
is ever guessed. If the row has no usable time, ``quality`` has ``time`` and ``time_us`` is when the
row was first seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from forwarder.core.usual_rows import Summary

SUCCESS = "success"
FAILURE = "failure"
UNKNOWN = "unknown"

# A prefix of our own: a key that Cloudflare adds must never be taken for one of these.
MALFORMED_KEY = "_forwarder_malformed"
"""In a row that could not be read: why. Its event has the quality ``malformed``."""
RAW_BYTES_KEY = "_forwarder_raw_base64"
"""In a row that could not be read: the bytes as received, base64."""

LONGEST = 1000
"""Of texts of a row in bytes: no format has to cut what is no longer."""

Row: TypeAlias = Mapping[str, Any]

# The pattern of OCSF's email_t, with bounds: an address of it has at most 254 bytes, all ASCII.
is_email = re.compile(
    r"[a-zA-Z0-9!#$%&'*+,\-./=?^_`{|}~]{1,64}+@[a-zA-Z0-9-]{1,63}+\.[a-zA-Z0-9-.]{1,125}+"
).fullmatch
"""Matches a text that is an e-mail address as OCSF understands it."""


class Origin(NamedTuple):
    """What all rows of one page share.

    ``account`` is the account's label, ``seen_us`` when the page was first seen. ``stored_as`` is
    the stream's name in the journal: a pushed log may have another one at sinks.
    """

    account_id: str
    account: str
    stream: str
    seen_us: int
    stored_as: str = ""


class Bodies(Enum):
    """How much of a SCIM request body a sink gets.

    ``WHOLE`` is all, ``NAMES`` not the text but whom it names, ``NOTHING`` not even that. What the
    body asked for (the activity, the attributes, the ids of members) is there in any case.
    """

    WHOLE = "whole"
    NAMES = "names"
    NOTHING = "nothing"


class Login(NamedTuple):
    """One row of the authentication log.

    ``user_email`` names the user, ``user_kind`` says how: ``email``, ``address`` (beyond ASCII),
    ``service`` (a token or a certificate), ``name`` or empty. ``country`` is two letters of ISO
    3166; ``network`` is ``tor`` or empty. ``host``, ``port``, ``path`` and ``query`` are parts of
    ``app_domain``, the path with its slash; ``url`` is empty for a domain with a wildcard.
    ``ip_version`` is 4, 6 or 0. ``allowed`` is None when the row does not say. Several rows may
    have one ``ray_id``. A row may stand for ``login_count`` logins (see ``docs/schema.md``).
    """

    origin: Origin
    id: str
    time_us: int
    row: Row
    quality: tuple[str, ...]
    extra: Row
    created_at: str
    ip_address: str
    user_email: str
    app_domain: str
    app_uid: str
    action: str
    connection: str
    ray_id: str
    country: str
    user_id: str
    app_name: str
    app_type: str
    host: str
    path: str
    url: str
    port: int | None
    query: str
    # Cloudflare writes Tor as the country T1, which is not a code of ISO 3166.
    network: str
    allowed: bool | None
    ip_version: int
    user_kind: str
    login_count: int | None = None
    sample_interval: float | None = None

    @property
    def message(self) -> str:
        """Return the login in one line for people."""
        result = {True: "allowed", False: "denied", None: "with unknown result"}[self.allowed]
        app = self.app_name or self.host
        ends = f" to {app}" if app else "", f" from {self.ip_address}" if self.ip_address else ""
        end = "".join(ends) + (f" ({n} times)" if (n := self.login_count or 1) > 1 else "")
        return f"Access {self.action or 'event'} {result}: {self.user or 'unknown'}{end}"

    @property
    def email(self) -> str:
        """Return the user's e-mail address, if the row has one."""
        return self.user_email if self.user_kind in {"email", "address"} else ""

    @property
    def outcome(self) -> str:
        """Return ``success``, ``failure`` or ``unknown``."""
        return UNKNOWN if self.allowed is None else SUCCESS if self.allowed else FAILURE

    @property
    def user(self) -> str:
        """Return whom it is about: e-mail address, token id or user id, or nothing."""
        return self.user_email or self.user_id


class Member(NamedTuple):
    """A member named in the body of a group's change: its id and, where sent, name and type.

    ``type`` is ``User``, ``Group`` or empty.
    """

    value: str
    display: str = ""
    type: str = ""


class Provisioning(NamedTuple):
    """One row of the SCIM log.

    ``resource`` is ``user``, ``group`` or empty; ``activity`` is ``create``, ``update``,
    ``delete``, ``enable``, ``disable``, ``add_member``, ``remove_member`` or empty, read out of
    method and body; ``changed`` names the attributes that the body touched, sorted.
    ``members_added`` and ``members_removed`` are those that the request added and removed,
    ``members_set`` all members where it named all. ``user_name`` and ``email`` name the user:
    the row's ``user_email``, else what the body has. ``member_email`` is the name of
    ``only_member`` if that is an e-mail address. ``outcome`` comes from ``status``.
    ``request_body`` is masked, and so is the one in ``row``; ``body_bytes`` is its length in UTF-8.
    """

    origin: Origin
    id: str
    time_us: int
    row: Row
    quality: tuple[str, ...]
    extra: Row
    resource: str
    activity: str
    outcome: str
    changed: tuple[str, ...]
    members_added: tuple[Member, ...]
    members_removed: tuple[Member, ...]
    members_set: tuple[Member, ...]
    member_email: str
    user_name: str
    email: str
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
    body_bytes: int

    @property
    def members(self) -> tuple[Member, ...]:
        """Return all members that the request names."""
        return self.members_added + self.members_removed + self.members_set

    @property
    def only_member(self) -> Member | None:
        """Return the member that was added or removed, None if more was done than that."""
        return only(self.members_added + self.members_removed, self.members_set)

    @property
    def is_long(self) -> bool:
        """Return True if the members may be more than a line of text has room for."""
        return are_long([text for member in self.members for text in member[:2]])

    @property
    def takes_away(self) -> bool:
        """Return True if the change ends somebody's access: where it fails, a leaver keeps it."""
        return self.activity in {"disable", "delete", "remove_member"}

    @property
    def message(self) -> str:
        """Return the change in one line for people."""
        what = " ".join(filter(None, [self.action or "change", self.resource, self.user]))
        return f"SCIM {what}: {self.error_description or self.outcome}"

    @property
    def action(self) -> str:
        """Return what was done, for filters: the activity, else the method in small letters."""
        return self.activity or self.method.lower()

    @property
    def user(self) -> str:
        """Return whom or what it is about: e-mail address, group or id, or nothing."""
        return self.user_name or self.group_name or self.cf_resource_id

    def showing(self, bodies: Bodies) -> Provisioning:
        """Return this change with no more of its body than ``bodies`` allows."""
        if bodies is Bodies.WHOLE:
            return self
        bare = self._replace(
            row=without_body(self.row),
            extra=without_body(self.extra),
            request_body="",
            body_bytes=0,
        )
        if bodies is Bodies.NAMES:
            return bare
        return bare._replace(
            members_added=without_names(self.members_added),
            members_removed=without_names(self.members_removed),
            members_set=without_names(self.members_set),
            member_email="",
            user_name=self.user_email,
            email=self.user_email if is_email(self.user_email) else "",
        )


def only(moved: Sequence[Member], settled: Sequence[Member]) -> Member | None:
    """Return the one member that was ``moved``, None if more was done than that."""
    return moved[0] if len(moved) == 1 and not settled else None


def are_long(texts: Sequence[str]) -> bool:
    """Return ``Provisioning.is_long`` for ids and names of members."""
    # Formats put up to three characters around each.
    return len("".join(texts).encode("utf-8", "replace")) + 3 * len(texts) > LONGEST


def without_body(row: Row) -> Row:
    """Return a row of the SCIM log, or a part of one, without its request body."""
    # The bytes of a row that could not be read may hold a body, too.
    return {k: value for k, value in row.items() if k not in {"request_body", RAW_BYTES_KEY}}


def without_names(members: tuple[Member, ...]) -> tuple[Member, ...]:
    """Return ``members`` with nothing but their ids and types."""
    return tuple(member._replace(display="") for member in members)


class AdminActivity(NamedTuple):
    """A change of settings, a login to the dashboard, or a step of a request for access.

    ``activity`` is ``create``, ``view``, ``update``, ``delete``, ``login``, ``logout``, another
    word of the row, or empty. ``object`` is what was changed, by the address if the row has one:
    ``application``, ``policy``, ``rule_group``, ``identity_provider``, ``service_token``, ``user``,
    ``organization``, ``member``, ``api_token``, ``logpush_job``, ``access`` (something else of
    Access), ``temporary_access`` (a step of a request for it) or empty. ``operation`` is method and
    path with ``{id}`` for each id. ``ip_version`` is 4, 6 or 0. ``row_id`` is the row's own id.
    Bodies are JSON texts, masked, as they are in ``row``.
    """

    origin: Origin
    id: str
    time_us: int
    row: Row
    quality: tuple[str, ...]
    extra: Row
    activity: str
    object: str
    operation: str
    outcome: str
    ip_version: int = 0
    status_code: int | None = None
    request_body: str = ""
    response_body: str = ""
    row_id: str = ""
    occurred_at: str = ""
    description: str = ""
    result: str = ""
    actor_id: str = ""
    actor_email: str = ""
    actor_type: str = ""
    actor_context: str = ""
    ip_address: str = ""
    token_id: str = ""
    token_name: str = ""
    method: str = ""
    uri: str = ""
    user_agent: str = ""
    ray_id: str = ""
    resource_id: str = ""
    product: str = ""
    resource_type: str = ""
    scope: str = ""
    zone_id: str = ""
    zone_name: str = ""

    @property
    def is_login(self) -> bool:
        """Return True if somebody logged in to the dashboard, or out of it."""
        return self.activity in {"login", "logout"}

    @property
    def action(self) -> str:
        """Return what was done, for filters."""
        return self.activity

    @property
    def user(self) -> str:
        """Return who did it: e-mail address, name or id of a token, kind of actor, or nothing."""
        token = self.token_name or self.token_id
        return self.actor_email or token or self.actor_id or self.actor_type

    @property
    def path(self) -> str:
        """Return the address without its query."""
        return self.uri.partition("?")[0]

    @property
    def kind(self) -> str:
        """Return what was changed: the kind of object, else the row's own word, or nothing."""
        return self.object or self.resource_type

    @property
    def message(self) -> str:
        """Return the activity in one line for people."""
        what = " ".join(filter(None, [self.activity or "activity", self.kind, self.resource_id]))
        named = f" ({self.description})" if self.description else ""
        return f"Cloudflare {what}{named} by {self.user or 'unknown'}: {self.outcome}"

    def showing(self, bodies: Bodies) -> AdminActivity:
        """Return this activity without its bodies, unless ``bodies`` allows them whole."""
        if bodies is Bodies.WHOLE:
            return self
        resource = self.row.get("resource")
        row = without_body(self.row)
        if isinstance(resource, Mapping):
            row = {**row, "resource": {k: v for k, v in resource.items() if k not in BODIES}}
        return self._replace(row=row, request_body="", response_body="")


BODIES = frozenset({"request", "response"})
"""Keys of ``resource`` in a row of the audit log that hold bodies."""


class Traffic(NamedTuple):
    """A request to an application, or a session of a private network: what is behind a login.

    A session has no ``method`` and no ``url``. ``email`` is ``user_name`` if that is an e-mail
    address. ``uid`` is the request's ray, or the session's id; ``ip_address``
    and ``port`` are the client's, ``host``, ``dst_ip`` and ``dst_port`` the application's.
    ``transport`` is ``tcp``, ``udp``, ...; ``protocol`` is ``HTTP/2``, or what was detected in the
    session. ``sent`` and ``received`` are bytes, as the client sees it. ``reason`` is why a session
    ended. None stands for what the row does not say.
    """

    origin: Origin
    id: str
    time_us: int
    row: Row
    quality: tuple[str, ...]
    extra: Row
    outcome: str
    user_name: str = ""
    email: str = ""
    user_id: str = ""
    uid: str = ""
    ip_address: str = ""
    port: int | None = None
    country: str = ""
    host: str = ""
    dst_ip: str = ""
    dst_port: int | None = None
    transport: str = ""
    protocol: str = ""
    method: str = ""
    url: str = ""
    scheme: str = ""
    path: str = ""
    query: str = ""
    user_agent: str = ""
    referrer: str = ""
    status_code: int | None = None
    reason: str = ""
    sent: int | None = None
    received: int | None = None
    duration_ms: int | None = None
    device_id: str = ""
    device_name: str = ""

    @property
    def action(self) -> str:
        """Return the request's method in small letters, ``close`` for a session."""
        return self.method.lower() or "close"

    @property
    def user(self) -> str:
        """Return who it was: mostly an e-mail address, else an id, or nothing."""
        return self.user_name or self.user_id

    @property
    def message(self) -> str:
        """Return what happened in one line for people."""
        target = self.host or self.dst_ip
        what = f"{self.method} {target}{self.path}"
        if not self.method:
            ends = [self.transport, "session", f"with {target}" if target else ""]
            what = " ".join(filter(None, ends))
        result = self.reason or self.status_code or self.outcome
        return f"Access {what} by {self.user or 'unknown'}: {result}"


class OwnEvent(NamedTuple):
    """Something the forwarder says about itself; see ``forwarder.core.own_events``.

    ``about_stream`` and ``about_sink`` say which stream and sink it is about; ``since`` and
    ``until`` are RFC 3339, ``rows`` is None when nobody knows.
    """

    origin: Origin
    id: str
    time_us: int
    row: Row
    quality: tuple[str, ...]
    extra: Row
    action: str
    outcome: str
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

    @property
    def message(self) -> str:
        """Return the event in one line for people."""
        about = " ".join(filter(None, [self.action, self.about_stream, self.about_sink]))
        return ": ".join(filter(None, [f"forwarder {about}", self.reason, self.detail]))


Event: TypeAlias = Login | Provisioning | AdminActivity | Traffic | OwnEvent

Normalise: TypeAlias = Callable[[Row, Origin, str, int], Event]
"""From (row, origin, id as 32 hex digits, time in microseconds) to an event. Pure and total."""


class UsualRows(NamedTuple):
    """The fast way for pages of rows, nearly all of which look the same.

    ``view`` takes (row, time in microseconds, ``Origin.seen_us``, bodies); it may return a plain
    tuple with the items of a ``RowView``, which is made faster. ``summarise`` takes any rows.
    ``has_bodies`` is False if a row has no SCIM body to leave out.
    """

    view: Callable[[Row, int, int, Bodies], tuple[Hashable, tuple[str, ...], str]]
    summarise: Callable[[Sequence[Row], Bodies], Summary]
    has_bodies: bool


class Normaliser(NamedTuple):
    """How the rows of one stream become events; a source has one a stream.

    ``keys`` are the keys that rows are known to have, empty where nobody can tell. ``usual`` is
    worth its code only for a stream of many rows: see docs/templates.md. Its events have the
    page's origin, and ``core.masking.mask_row(row)`` as their row.
    """

    normalise: Normalise
    keys: frozenset[str] = frozenset()
    usual: UsualRows | None = None
