"""The common schema: every kind of event that formats render.

A provisioning change: one row of the SCIM log, in the common schema.

The common schema: what happened, in three kinds of event that every format understands.

    Login         somebody logged in to an application, or was refused      (``access_requests``)
    Provisioning  an identity provider changed a user or a group by SCIM    (``scim_updates``)
    OwnEvent      the forwarder itself: start, stop, gap, late rows, ...    (``forwarder``)

A *text* is a ``str`` that is never None: empty means that the row has none. A value that is not
what its key promises is kept as received in ``extra`` and its key is named in ``quality``; nothing
is ever guessed. Where the row has no usable time, ``quality`` has ``time`` and the event has the
time it was first seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, Protocol, TypeAlias

import orjson

from forwarder.core.login import Login, Oddities, Origin, oddities

CHANGE_TEXTS = (
    "logged_at",
    "resource_type",
    "user_email",
    "group_name",
    "cf_resource_id",
    "idp_resource_id",
    "idp_id",
    "status",
    "error_description",
    "method",
    "request_body",
)
"""The texts of a change, in the order of ``fillings``; formats may branch on the method alone."""

BODY = CHANGE_TEXTS.index("request_body")


class Member(NamedTuple):
    """A member named in the body of a group's change: its id and, where sent, its name."""

    value: str
    display: str = ""


class Provisioning(NamedTuple):
    """One row of the SCIM log.

    ``resource`` is ``user``, ``group`` or empty; ``activity`` is ``create``, ``update``,
    ``delete``, ``enable``, ``disable``, ``add_member``, ``remove_member`` or empty, read out of
    method and body. ``outcome`` comes from ``status``. ``request_body`` is masked, and so is
    the one in ``row``; ``body_bytes`` is its length in UTF-8. ``has_address`` says that
    ``user_email`` is an e-mail address. ``odd.plain`` is False where a text might need escaping or
    cutting in some format, or is the same as another.
    """

    origin: Origin
    id: str
    time_us: int
    row: Mapping[str, Any]
    resource: str
    activity: str
    outcome: str
    members: tuple[Member, ...]
    extra: Mapping[str, Any]
    logged_at: str
    method: str
    resource_type: str
    user_email: str
    has_address: bool
    group_name: str
    cf_resource_id: str
    idp_resource_id: str
    idp_id: str
    status: str
    error_description: str
    request_body: str
    body_bytes: int
    odd: Oddities

    @property
    def quality(self) -> tuple[str, ...]:
        """Return the keys at fault, or ``time`` or ``malformed``."""
        return self.odd.quality

    @property
    def shape(self) -> tuple[Any, ...]:
        """Return what kind of change it is: all that a format may branch on.

        See ``forwarder.core.login.LoginShape``. The method is the identity provider's choice.
        """
        named = tuple(bool(member.display) for member in self.members)
        kind = (self.resource, self.activity, self.outcome, self.method, self.has_address)
        return (*kind, named, self.odd)

    @property
    def fillings(self) -> tuple[str, ...]:
        """Return what goes into a template: ``CHANGE_TEXTS``, the body's size, ids, names.

        The body is escaped as within a text of JSON.
        """
        texts = (getattr(self, name) for name in CHANGE_TEXTS[:BODY])
        body = escaped(self.request_body), str(self.body_bytes)
        values, names = (member.value for member in self.members), (m.display for m in self.members)
        return (*texts, *body, *values, *names)

    @property
    def action(self) -> str:
        """Return what was done, for filters: the activity, else the method in small letters."""
        return self.activity or self.method.lower()

    @property
    def user(self) -> str:
        """Return whom or what it is about: e-mail address, group or id, or nothing."""
        return self.user_email or self.group_name or self.cf_resource_id

    def without_body(self, *, keys: frozenset[str]) -> Provisioning:
        """Return this change without body and names of members; ``keys`` of the row hold those.

        What the body asked for (the activity, the ids of members) stays.
        """
        present = tuple(there and at != BODY for at, there in enumerate(self.odd.present))
        return self._replace(
            row={key: value for key, value in self.row.items() if key not in keys},
            extra={key: value for key, value in self.extra.items() if key not in keys},
            members=tuple(member._replace(display="") for member in self.members),
            request_body="",
            body_bytes=0,
            odd=oddities(
                self.odd.quality, present, has_extra=self.odd.has_extra, plain=self.odd.plain
            ),
        )


def escaped(text: str) -> str:
    """Return ``text`` as it stands between the quotes of a JSON text, if JSON can hold it."""
    try:
        return orjson.dumps(text)[1:-1].decode()
    except TypeError:
        return ""


def escaped_each(texts: Sequence[str]) -> list[str]:
    """Return ``escaped`` of each, in one go."""
    if not texts:
        return []
    try:
        lines = orjson.dumps(texts, option=orjson.OPT_INDENT_2).decode()
    except TypeError:
        return list(map(escaped, texts))
    return lines[len(_BEFORE) : -len(_AFTER)].split(_BETWEEN)  # texts have no line ends there


_BEFORE, _BETWEEN, _AFTER = '[\n  "', '",\n  "', '"\n]'


MALFORMED_KEY = "_forwarder_malformed"
"""In a row that could not be read: why. Such an event has the quality ``malformed``."""
RAW_BYTES_KEY = "_forwarder_raw_base64"
"""In a row that could not be read: the bytes as received, base64."""


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
    def shape(self) -> None:
        """Return None: such events are rare; see ``forwarder.core.login.Login``."""
        return

    @property
    def user(self) -> str:
        """Return nothing: it is about no person."""
        return ""


Event: TypeAlias = Login | Provisioning | OwnEvent

Normalise: TypeAlias = Callable[[Mapping[str, Any], Origin, str, int], Event]
"""From (row, origin, id as 32 hex digits, time in microseconds) to an event. Pure and total."""


class Glimpse(NamedTuple):
    """What a sink wants to know of each row beside the body: one list each, a value a row."""

    accounts: Iterable[str]
    outcomes: Sequence[str]
    users: Sequence[str]


Glance: TypeAlias = Callable[[Sequence[Mapping[str, Any]], Origin], Glimpse]
"""From rows to what their events would say about themselves, without making the events."""


Reading: TypeAlias = tuple[tuple[Any, ...] | None, tuple[str, ...], str]
"""What an event would have as ``shape`` and ``fillings``, and the members of what is extra.

The shape is None where it takes an event to say more. The members are JSON without the braces.
"""

NOT_READ: Reading = (None, (), "")
"""What ``ReadRows`` says about a row that takes an event."""


class ReadRows(Protocol):
    """From a page's rows to what their events would have, without making the events.

    Events of rows that can be read so have the page's origin, and ``core.masking.mask_row(row)``
    as their row.
    """

    def __call__(
        self,
        rows: Sequence[Mapping[str, Any]],
        origin: Origin,
        times_us: Sequence[int],
        *,
        bodies: bool,
    ) -> Iterable[Reading]:
        """Return a reading for each row; without ``bodies``, as if no row had one of SCIM."""


def read_nothing(
    rows: Sequence[Mapping[str, Any]],
    origin: Origin,  # noqa: ARG001 - a row's reading has nothing of these
    times_us: Sequence[int],  # noqa: ARG001
    *,
    bodies: bool,  # noqa: ARG001
) -> Iterable[Reading]:
    """Say of every row that it takes an event."""
    return repeat(NOT_READ, len(rows))


class Normaliser(NamedTuple):
    """How the rows of one stream become events; a source has one a stream.

    ``keys`` are the keys that rows are known to have, empty where nobody can tell.
    """

    normalise: Normalise
    glance: Glance
    read_rows: ReadRows = read_nothing
    keys: frozenset[str] = frozenset()
