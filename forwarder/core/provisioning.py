"""A provisioning change: one row of the SCIM log, in the common schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from forwarder.core.login import Oddities, oddities
from forwarder.core.origin import Origin

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
