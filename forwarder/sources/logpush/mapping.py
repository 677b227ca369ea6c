"""What the values of Logpush's datasets mean: from rows to events, and which of them are secrets.

Some datasets are also read by requests, where the same values have other names: a row is renamed,
and mapped as its twin is. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwarder.core.masking import mask_row, mask_value
from forwarder.core.schema import AdminActivity, Login, Normaliser, Origin
from forwarder.core.timing import EARLIEST_US, LATEST_US, format_us, parse_us
from forwarder.sources.cloudflare_access.activity_mapping import mask_audit, normalise_audit
from forwarder.sources.cloudflare_access.login_mapping import normalise_login

Row = Mapping[str, Any]

_OPENING = frozenset("{[")
# Seconds, milliseconds, microseconds and nanoseconds of the years 1973 to 5138 never overlap.
_UNITS = ((10**11, 1_000_000, 1), (10**14, 1000, 1), (10**17, 1, 1), (10**20, 1, 1000))


def mask_nested(row: Row) -> Row:
    """Return ``row`` without secrets in its objects; the very same object if it has none.

    Bodies of requests and headers are such objects, also where they are JSON in a text. Any other
    value at the top has one of Cloudflare's names, which say nothing of secrets.
    """
    row = mask_row(row)
    found = {
        key: masked
        for key, value in row.items()
        if _is_object(value) and (masked := mask_value(value)) != value
    }
    return {**row, **found} if found else row


def _is_object(value: Any) -> bool:
    if isinstance(value, str):
        return value[:1] in _OPENING
    return isinstance(value, dict | list) and bool(value)


def moment_us(value: Any) -> int | None:
    """Return microseconds for RFC 3339, or for a Unix time in s, ms, us or ns; else None."""
    if isinstance(value, str) and not value.isdecimal():
        return parse_us(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    # Never through a float: nanoseconds have 19 digits.
    number = int(value) if len(str(value)) <= len(str(2**64)) else 0
    for most, times, through in _UNITS:
        if 0 < number < most:
            time_us = number * times // through
            return time_us if EARLIEST_US <= time_us <= LATEST_US else None
    return None


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
    twin = {LOGIN_NAMES.get(key, key): value for key, value in row.items()}
    created_us = moment_us(twin.get("created_at"))
    # A job may ask for Unix times, and the common schema has texts.
    if created_us is not None and parse_us(twin["created_at"]) is None:
        twin["created_at"] = format_us(created_us)
    login = normalise_login(twin, origin, id, time_us)
    return login._replace(row=mask_nested(row))


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
    twin: dict[str, Any] = {}
    for key, value in row.items():
        if key == "AuditLogID":
            twin["id"] = value
        elif key in ACTIVITY_NAMES:
            section, name = ACTIVITY_NAMES[key]
            twin.setdefault(section, {})[name] = value
        elif key in _OBJECTS and isinstance(value, dict):
            section, names = _OBJECTS[key]
            twin.setdefault(section, {}).update(
                {names.get(one.replace("_", "").lower(), one): item for one, item in value.items()}
            )
        else:
            twin[key] = value
    action = twin.get("action", {})
    occurred_us = moment_us(action.get("time"))
    if occurred_us is not None and parse_us(action["time"]) is None:
        action["time"] = format_us(occurred_us)
    return twin


def mask_activity(row: Row) -> Row:
    """Return a row of dataset ``audit_logs_v2`` without secrets, by the rules of its twin."""
    twin = mask_audit(as_activity(row)).get("resource", {})
    bodies = {key: twin[ACTIVITY_NAMES[key][1]] for key in _BODIES if key in row}
    return mask_nested(row if all(row[k] == v for k, v in bodies.items()) else {**row, **bodies})


def normalise_pushed_activity(
    row: Row,
    origin: Origin,
    id: str,  # noqa: A002
    time_us: int,
) -> AdminActivity:
    """Return the activity in a row of dataset ``audit_logs_v2``."""
    return normalise_audit(as_activity(row), origin, id, time_us)._replace(row=mask_activity(row))


LOGINS = "access_requests"
TWINS: Mapping[str, str] = {LOGINS: LOGINS, "audit_logs_v2": "account_audit"}
"""Datasets that are logs which are polled, too, and the streams of those."""
NORMALISERS: Mapping[str, Normaliser] = {
    "access_requests": Normaliser(normalise_pushed_login, _ONLY_PUSHED.union(LOGIN_NAMES)),
    "audit_logs_v2": Normaliser(
        normalise_pushed_activity, frozenset({"AuditLogID", *ACTIVITY_NAMES, *_OBJECTS})
    ),
}
"""How the rows of the datasets that are mapped become events."""
