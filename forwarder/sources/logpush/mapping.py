"""What the values of Logpush's datasets mean: from rows to events, and which of them are secrets.

Some datasets are also polled, where the same values have other names: a row is renamed, and mapped
as a polled one is. ``traffic`` has those that nobody can poll. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from forwarder.core.masking import mask_columns, mask_nested, mask_row
from forwarder.core.schema import AdminActivity, Bodies, Login, Normaliser, Origin, UsualRows
from forwarder.core.timing import format_us, moment_us, parse_us
from forwarder.core.usual_rows import Summary
from forwarder.sources.cloudflare_access.activity_mapping import mask_audit, normalise_audit
from forwarder.sources.cloudflare_access.login_mapping import (
    normalise_login,
    summarise_logins,
    view_login,
)
from forwarder.sources.logpush.traffic import normalise_request, normalise_session

Row = Mapping[str, Any]

LOGIN_NAMES: Mapping[str, str] = {
    "Action": "action",
    "Allowed": "allowed",
    "AppDomain": "app_domain",
    "AppUUID": "app_uid",
    "Connection": "connection",
    "Country": "country",
    "CreatedAt": "created_at",
    "Email": "user_email",
    "IPAddress": "ip_address",
    "RayID": "ray_id",
    "UserUID": "user_id",
}
"""What the values of a login are called in a push, and in an answer of the API."""
_ONLY_PUSHED = frozenset(
    {
        "PurposeJustificationPrompt",
        "PurposeJustificationResponse",
        "TemporaryAccessApprovers",
        "TemporaryAccessDuration",
    }
)


def normalise_pushed_login(row: Row, origin: Origin, id: str, time_us: int) -> Login:  # noqa: A002
    """Return the login in a row of dataset ``access_requests``; see ``core.schema.Normalise``."""
    polled = _as_login(row)
    created_us = moment_us(polled.get("created_at"))
    # A job may ask for Unix times, and the common schema has texts.
    if created_us is not None and parse_us(polled["created_at"]) is None:
        polled["created_at"] = format_us(created_us)
    return normalise_login(polled, origin, id, time_us)._replace(row=mask_row(row))


def _as_login(row: Row) -> dict[str, Any]:
    return {LOGIN_NAMES.get(key, key): value for key, value in row.items()}


def _view(
    row: Row, time_us: int, seen_us: int, bodies: Bodies
) -> tuple[Hashable, tuple[str, ...], str]:
    """Return the ``core.usual_rows.RowView`` of a login; one with a Unix time is not usual."""
    polled = _as_login(row)
    if str(polled.get("created_at")).isdecimal():
        return None, (), ""
    return view_login(polled, time_us, seen_us, bodies)


def _summarise(rows: Sequence[Row], bodies: Bodies) -> Summary:
    return summarise_logins(list(map(_as_login, rows)), bodies)


_USUAL = UsualRows(_view, _summarise, has_bodies=False)


ACTIVITY_NAMES: Mapping[str, tuple[str, str]] = {
    "AccountID": ("account", "id"),
    "AccountName": ("account", "name"),
    "ActionDescription": ("action", "description"),
    "ActionResult": ("action", "result"),
    "ActionTimestamp": ("action", "time"),
    "ActionType": ("action", "type"),
    "ActorContext": ("actor", "context"),
    "ActorEmail": ("actor", "email"),
    "ActorID": ("actor", "id"),
    "ActorIPAddress": ("actor", "ip_address"),
    "ActorType": ("actor", "type"),
    "ResourceID": ("resource", "id"),
    "ResourceProduct": ("resource", "product"),
    "ResourceRequest": ("resource", "request"),
    "ResourceResponse": ("resource", "response"),
    "ResourceScope": ("resource", "scope"),
    "ResourceType": ("resource", "type"),
    "ZoneID": ("zone", "id"),
    "ZoneName": ("zone", "name"),
}
"""Where an answer of the API has the values of an activity."""
_SECTIONS = {"id", "raw", *(section for section, _ in ACTIVITY_NAMES.values())}
_BODIES = ("ResourceRequest", "ResourceResponse")
_TOKEN_NAMES = {
    "id": "token_id",
    "tokenid": "token_id",
    "name": "token_name",
    "tokenname": "token_name",
}
_RAW_NAMES = {
    "cfrayid": "cf_ray_id",
    "rayid": "cf_ray_id",
    "method": "method",
    "uri": "uri",
    "statuscode": "status_code",
    "useragent": "user_agent",
}
# No document names the keys of these two objects, so that case and underscores do not count.
_OBJECTS = {"ActorTokenDetails": ("actor", _TOKEN_NAMES), "Raw": ("raw", _RAW_NAMES)}


def as_activity(row: Row) -> dict[str, Any]:
    """Return a row of dataset ``audit_logs_v2`` as an answer of the API would have it."""
    polled: dict[str, Any] = {}
    for key, value in row.items():
        if key == "AuditLogID":
            polled["id"] = value
        elif key in ACTIVITY_NAMES:
            section, name = ACTIVITY_NAMES[key]
            polled.setdefault(section, {})[name] = value
        elif key in _OBJECTS and isinstance(value, dict):
            section, names = _OBJECTS[key]
            polled.setdefault(section, {}).update(
                {names.get(one.replace("_", "").lower(), one): item for one, item in value.items()}
            )
        else:
            # A key that Cloudflare does not send must not be taken for a part of the answer.
            polled[f"{key}_" if key in _SECTIONS else key] = value
    action = polled.get("action", {})
    occurred_us = moment_us(action.get("time"))
    if occurred_us is not None and parse_us(action["time"]) is None:
        action["time"] = format_us(occurred_us)
    return polled


def mask_activity(row: Row) -> Row:
    """Return a row of dataset ``audit_logs_v2`` without secrets, by the rules of a polled one."""
    polled = mask_audit(as_activity(row)).get("resource", {})
    bodies = {key: polled[ACTIVITY_NAMES[key][1]] for key in _BODIES if key in row}
    # What is called a token there is what a token is called.
    apart = {k: mask_columns(row[k]) for k in _OBJECTS if isinstance(row.get(k), dict)} | bodies
    whole = {**row, **mask_nested({k: v for k, v in row.items() if k not in apart}), **apart}
    return row if whole == row else whole


def normalise_pushed_activity(
    row: Row,
    origin: Origin,
    id: str,  # noqa: A002
    time_us: int,
) -> AdminActivity:
    """Return the activity in a row of dataset ``audit_logs_v2``."""
    return normalise_audit(as_activity(row), origin, id, time_us)._replace(row=mask_activity(row))


LOGINS = "access_requests"
"""The log of logins: its dataset, and the stream that is polled."""
POLLED: Mapping[str, str] = {LOGINS: LOGINS, "audit_logs_v2": "account_audit"}
"""Datasets that are logs which are polled, too, and the streams of those."""
NORMALISERS: Mapping[str, Normaliser] = {
    LOGINS: Normaliser(normalise_pushed_login, _ONLY_PUSHED.union(LOGIN_NAMES), _USUAL),
    "audit_logs_v2": Normaliser(
        normalise_pushed_activity, frozenset({"AuditLogID", *ACTIVITY_NAMES, *_OBJECTS})
    ),
    "http_requests": Normaliser(normalise_request),
    "zero_trust_network_sessions": Normaliser(normalise_session),
}
"""How the rows of the datasets that are mapped become events."""
