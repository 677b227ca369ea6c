"""Rows of the SCIM log (``scim/updates``) as provisioning changes of the common schema.

There are two ways, as for logins: ``normalise_scim`` takes any row and makes a change of it,
``view_change`` reads of usual rows what a template needs. What a body asked for both let
``body`` find out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from forwarder.core.masking import mask_error, mask_request_body, mask_row
from forwarder.core.schema import (
    FAILURE,
    LONGEST,
    MALFORMED_KEY,
    RAW_BYTES_KEY,
    SUCCESS,
    UNKNOWN,
    Bodies,
    Normaliser,
    Origin,
    Provisioning,
    UsualRows,
    are_long,
)
from forwarder.core.timing import parse_us
from forwarder.core.usual_rows import Summary
from forwarder.sources.cloudflare_access.login_mapping import is_plain
from forwarder.sources.cloudflare_access.row_layout import Layout, without_nulls
from forwarder.sources.cloudflare_access.scim.body import Request, read_request

METHODS = ("http_method", "request_method")
"""Live rows have another key for the method than the documented one."""
_TEXTS = {
    "logged_at": "logged_at",
    "resource_type": "resource_type",
    "user_email": "resource_user_email",
    "group_name": "resource_group_name",
    "cf_resource_id": "cf_resource_id",
    "idp_resource_id": "idp_resource_id",
    "idp_id": "idp_id",
    "status": "status",
    "error_description": "error_description",
    "request_body": "request_body",
}
"""The texts of a change, and the key that a row has for each."""
KNOWN_KEYS = frozenset({*_TEXTS.values(), *METHODS})
_ALWAYS = ("resource_type", "cf_resource_id", "idp_id", "status")
"""Keys seen on every row; their absence is a fault of a row."""
_OUTCOMES = {"SUCCESS": SUCCESS, "FAILURE": FAILURE, "ERROR": FAILURE}


def normalise_scim(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Provisioning:  # noqa: A002
    """Return the provisioning change in ``row``; see ``core.schema.Normalise``."""
    row = mask_row(row)  # again: an older version may have stored it with weaker rules
    texts = {name: _text(row.get(key)) for name, key in _TEXTS.items()}
    method = _method(row)
    body = row.get("request_body")
    asked = read_request(texts["resource_type"], method, body)
    user_name, email = asked.names_of(texts["user_email"])
    return Provisioning(
        origin,
        id=id,
        time_us=time_us,
        row=row,
        quality=_quality(row, method, readable=asked.whole or body in (None, "")),
        extra={
            key: value for key, value in row.items() if key not in KNOWN_KEYS or not _fits(value)
        },
        resource=asked.resource,
        activity=asked.activity,
        outcome=_outcome(texts["status"]),
        changed=asked.changed,
        members_added=asked.members.added,
        members_removed=asked.members.removed,
        members_set=asked.members.set,
        member_email=asked.members.email,
        user_name=user_name,
        email=email,
        method=method,
        body_bytes=len(texts["request_body"].encode("utf-8", "replace")),
        **texts,
    )


def _quality(row: Mapping[str, Any], method: str, *, readable: bool) -> tuple[str, ...]:
    """Return the keys whose value is missing or not what the key promises."""
    if MALFORMED_KEY in row:
        return ("malformed",)
    found = ["time"] if parse_us(_text(row.get("logged_at"))) is None else []
    found += [key for key in _ALWAYS if not _text(row.get(key))]
    found += [key for key in _TEXTS.values() if not _fits(row.get(key)) and key not in found]
    if not method:
        found.append("http_method")
    if not readable and "request_body" not in found:
        found.append("request_body")
    return tuple(found)


def _method(row: Mapping[str, Any]) -> str:
    return next((row[key] for key in METHODS if _text(row.get(key))), "").upper()


def _fits(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _outcome(status: str) -> str:
    return _OUTCOMES.get(status.upper(), UNKNOWN)


def summarise_changes(rows: Sequence[Mapping[str, Any]], bodies: Bodies) -> Summary:
    """Return outcome and user of any rows; see ``core.schema.UsualRows``."""
    outcomes = [_outcome(_text(row.get("status"))) for row in rows]
    return Summary(outcomes, [_user(row, bodies) for row in rows])


def _user(row: Mapping[str, Any], bodies: Bodies) -> str:
    """Return ``Provisioning.user``; the body is read only if the row itself names no user."""
    if user := _text(row.get("resource_user_email")):
        return user
    kind = _text(row.get("resource_type"))
    if kind.upper() == "USER" and bodies is not Bodies.NOTHING:
        request = read_request(kind, _method(row), mask_row(row).get("request_body"))
        if user := request.user_name or request.email:
            return user
    return _text(row.get("resource_group_name")) or _text(row.get("cf_resource_id"))


# The fast way.

_NOT_USUAL: tuple[None, tuple[str, ...], str] = (None, (), "")
_NEVER_USUAL = frozenset({MALFORMED_KEY, RAW_BYTES_KEY})
_LONGEST_NAME, _LONGEST_READ = 63, 20_000
"""Characters of a name or an id in a body, bytes of all that goes into shape and arguments.

LEEF has room for 255 bytes of a user.
"""
_MOST_MEMBERS = 32
"""More take the lenient way: each number of members is a shape of its own."""


def view_change(
    row: Mapping[str, Any], time_us: int, seen_us: int, bodies: Bodies
) -> tuple[Hashable, tuple[str, ...], str]:
    """Return the ``core.usual_rows.RowView`` of a row.

    A row is usual if it has a time of its own, a method, and a body that can be read or none; if no
    value is of a wrong kind, no text needs escaping or cutting, and no two names are the same.
    """
    layout = _layout_of(tuple(row))
    texts, body = layout.texts_of(row), row.get("request_body")
    try:
        together = "".join(texts)
    except TypeError:
        texts = without_nulls(texts)
        together = "".join(texts)
    logged_at, kind, email, _, identity, _, _, status, error, method = texts
    if (
        not (layout.usual and logged_at and method and (body is None or body.__class__ is str))
        # A row without a usable time has been given the time at which it was first seen.
        or time_us == seen_us
        or not is_plain(together, LONGEST)
        or (error and mask_error(error) != error)
    ):
        return _NOT_USUAL
    read = _read_body if body and len(body) > _LONGEST_REMEMBERED else _remembered_body
    asked = read(kind, method, body or "", bodies)
    if asked is None:
        return _NOT_USUAL
    user_name, address = asked.request.names_of(email)
    named = asked.named
    if (
        identity in named
        or (identity and identity in {email, user_name, address})
        or not named.isdisjoint((email, user_name, address))
        or (len(user_name) > _LONGEST_NAME and user_name != address)
    ):
        return _NOT_USUAL
    shape = (
        *(asked.shape, _OUTCOMES.get(status) or _outcome(status), layout.odd_of(texts)),
        *(
            user_name == email,
            address == email,
            user_name == address,
            user_name == "",
            address == "",
        ),
    )
    arguments = (*texts[:-1], asked.method, user_name, address, *asked.arguments)
    return shape, arguments, layout.extra_of(row) if layout.extra_of else ""


class _Body(NamedTuple):
    """What a usual body says: the shape that it gives a row, and the last of its arguments.

    ``named`` are ids and names of its members: no two are the same.
    """

    request: Request
    method: str
    shape: Hashable
    arguments: tuple[str, ...]
    named: frozenset[str]


def _read_body(kind: str, method: str, body: str, bodies: Bodies) -> _Body | None:
    """Return what a body says, None if formats would not write what is in it as it is, once."""
    method, body = method.upper(), mask_request_body(body)
    request = read_request(kind, method, body or None)
    if bodies is Bodies.NOTHING:
        request = request.without_names()
    members = request.members
    values, shown, kinds = zip(*members.all, strict=True) if members.all else _NOBODY
    names, texts = (request.user_name, request.email), (*values, *filter(None, shown))
    named = frozenset(texts)
    if (
        not (request.whole or not body)
        or len(values) > _MOST_MEMBERS
        or len(named) < len(texts)
        # Each mixture would be a shape of its own, and there is no end of them.
        or len({*kinds}) > 1
        or len(texts) not in {len(values), 2 * len(values)}
        or max(map(len, texts), default=0) > _LONGEST_NAME
        or not is_plain("".join((method, *names, *kinds, *request.changed, *texts)), _LONGEST_READ)
    ):
        return None
    content, size = "", "0"
    if body and bodies is Bodies.WHOLE:
        content, size = orjson.dumps(body)[1:-1].decode(), str(len(body.encode()))
    resource, activity, changed, *_ = request
    shape = (
        *(resource, activity, changed, method, content != "", members.email != ""),
        *(len(members.added), len(members.removed), len(members.set)),
        *(kinds[:1], len(texts) > len(values), are_long(texts)),
    )
    arguments = (members.email, content, size, *values, *shown)
    return _Body(request, method, shape, arguments, named)


_NOBODY: tuple[tuple[str, ...], ...] = ((), (), ())
_LONGEST_REMEMBERED = 256
_remembered_body = lru_cache(128)(_read_body)
"""The same for short bodies, many of which are the same: a user is switched off."""


@lru_cache(64)
def _layout_of(keys: tuple[str, ...]) -> Layout:
    method = next((key for key in METHODS if key in keys), METHODS[0])
    texts = [key for key in _TEXTS.values() if key != "request_body"]
    usual = _NEVER_USUAL.isdisjoint(keys) and not set(METHODS).issubset(keys)
    return Layout.of(keys, [*texts, method], KNOWN_KEYS, usual=usual)


_USUAL = UsualRows(view_change, summarise_changes, has_bodies=True)
SCIM_UPDATES = Normaliser(normalise_scim, KNOWN_KEYS, _USUAL)
"""How the rows of stream ``scim_updates`` become events."""
