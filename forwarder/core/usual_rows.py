"""What a template takes of usual rows: which fields, in which order; see docs/templates.md."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

LOGIN_ARGUMENTS = (
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
    "host",
    "path",
    "url",
)
"""The fields of a login that go into a template, in the order of ``RowView.arguments``."""
CHANGE_ARGUMENTS = (
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
    "user_name",
    "email",
    "member_email",
    "request_body",
    "body_bytes",
)
"""The same of a change; behind them are the ids of all members, then their names.

The body is escaped as in a text of JSON.
"""
# They are the choice of the tenant, not of whoever logs in, so there are few of them.
IN_SHAPE = frozenset({"action", "connection", "method"})
"""Those that are part of the shape, too: a format may branch on their text."""


class RowView(NamedTuple):
    """What a template needs of one usual row, read without making an event.

    Rows of one ``shape`` differ in nothing but ``arguments``, their id and time, and the values in
    ``extra``. No text of ``arguments`` but the body needs escaping or cutting in any format.
    ``extra`` is that of the event as JSON without its braces. ``shape`` is None for a row that is
    not usual.
    """

    shape: Hashable
    arguments: tuple[str, ...]
    extra: str


class Summary(NamedTuple):
    """What a sink wants to know of each row beside the body: a value a row."""

    outcomes: Sequence[str]
    users: Sequence[str]
