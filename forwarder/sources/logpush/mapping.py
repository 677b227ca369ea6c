"""What the values of Logpush's datasets mean: from rows to events, and which of them are secrets.

Some datasets are also read by requests, where the same values have other names: a row is renamed,
and mapped as its twin is. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from forwarder.core.masking import mask_columns, mask_row
from forwarder.core.own_events import normalise_own
from forwarder.core.schema import (
    FAILURE,
    MALFORMED_KEY,
    SUCCESS,
    UNKNOWN,
    AdminActivity,
    Bodies,
    Event,
    Login,
    Normaliser,
    Origin,
    Traffic,
    UsualRows,
    is_email,
)
from forwarder.core.timing import EARLIEST_US, LATEST_US, format_us, parse_us
from forwarder.core.usual_rows import Summary
from forwarder.sources.cloudflare_access.activity_mapping import mask_audit, normalise_audit
from forwarder.sources.cloudflare_access.login_mapping import (
    COUNTRIES,
    ip_version,
    normalise_login,
    summarise_logins,
    view_login,
)

Row = Mapping[str, Any]

# Seconds, milliseconds, microseconds and nanoseconds of the years 1973 to 5138 never overlap.
_UNITS = ((10**11, 1_000_000, 1), (10**14, 1000, 1), (10**17, 1, 1), (10**20, 1, 1000))


def mask_nested(row: Row) -> Row:
    """Return ``row`` without secrets in its values; the very same object if it has none.

    The names at the top are Cloudflare's own, which say nothing of secrets; those of headers and
    in bodies do, also where they are JSON in a text.
    """
    return mask_columns(mask_row(row), named=False)


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
    twin = _as_login(row)
    created_us = moment_us(twin.get("created_at"))
    # A job may ask for Unix times, and the common schema has texts.
    if created_us is not None and parse_us(twin["created_at"]) is None:
        twin["created_at"] = format_us(created_us)
    return normalise_login(twin, origin, id, time_us)._replace(row=mask_row(row))


def _as_login(row: Row) -> dict[str, Any]:
    return {LOGIN_NAMES.get(key, key): value for key, value in row.items()}


def _view(
    row: Row, time_us: int, seen_us: int, bodies: Bodies
) -> tuple[Hashable, tuple[str, ...], str]:
    """Return the ``core.usual_rows.RowView`` of a login; one with a Unix time is not usual."""
    twin = _as_login(row)
    if str(twin.get("created_at")).isdecimal():
        return None, (), ""
    return view_login(twin, time_us, seen_us, bodies)


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
            # A key that Cloudflare does not send must not be taken for a part of the answer.
            twin[f"{key}_" if key in _SECTIONS else key] = value
    action = twin.get("action", {})
    occurred_us = moment_us(action.get("time"))
    if occurred_us is not None and parse_us(action["time"]) is None:
        action["time"] = format_us(occurred_us)
    return twin


def mask_activity(row: Row) -> Row:
    """Return a row of dataset ``audit_logs_v2`` without secrets, by the rules of its twin."""
    twin = mask_audit(as_activity(row)).get("resource", {})
    bodies = {key: twin[ACTIVITY_NAMES[key][1]] for key in _BODIES if key in row}
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


# Requests and sessions: what is behind a login. No log that is polled has them.

IDENTITY = "cf-access-user"
"""The request header in which Access tells the application who it is; a custom field of the job."""
_REQUEST: Mapping[str, str] = {
    "uid": "RayID",
    "ip_address": "ClientIP",
    "port": "ClientSrcPort",
    "country": "ClientCountry",
    "host": "ClientRequestHost",
    "dst_ip": "OriginIP",
    "protocol": "ClientRequestProtocol",
    "method": "ClientRequestMethod",
    "scheme": "ClientRequestScheme",
    "path": "ClientRequestURI",
    "user_agent": "ClientRequestUserAgent",
    "referrer": "ClientRequestReferer",
    "status_code": "EdgeResponseStatus",
    "sent": "ClientRequestBytes",
    "received": "EdgeResponseBytes",
}
_SESSION: Mapping[str, str] = {
    "uid": "SessionID",
    "user_name": "Email",
    "user_id": "UserID",
    "ip_address": "SourceIP",
    "port": "SourcePort",
    "host": "ResolvedFQDN",
    "dst_ip": "OriginIP",
    "dst_port": "OriginPort",
    "transport": "Protocol",
    "protocol": "DetectedProtocol",
    "reason": "ConnectionCloseReason",
    "sent": "BytesSent",
    "received": "BytesReceived",
    "device_id": "DeviceID",
    "device_name": "DeviceName",
}
_MOST = {
    **dict.fromkeys(("port", "dst_port"), 2**16 - 1),
    **dict.fromkeys(("sent", "received"), 2**63 - 1),
    "status_code": 999,
}
"""Of numbers; a larger one is not what its key promises."""
_LONGEST_MS = 2**31 - 1
_TIMES = {
    "RayID": ("EdgeStartTimestamp", "EdgeEndTimestamp"),
    "SessionID": ("SessionStartTime", "SessionEndTime"),
}
_EMPTY: tuple[Any, ...] = (None, "", {}, [])
_REFUSED = 400
_CLOSED = {
    **dict.fromkeys(("CLIENT_CLOSED", "CLIENT_IDLE_TIMEOUT", "ORIGIN_CLOSED"), SUCCESS),
    **dict.fromkeys(("CLIENT_ERROR", "CLIENT_TLS_ERROR", "MISMATCHED_IP_VERSIONS"), FAILURE),
    **dict.fromkeys(("ORIGIN_ERROR", "ORIGIN_TLS_ERROR", "ORIGIN_UNREACHABLE"), FAILURE),
    "PROXY_CONN_REFUSED": FAILURE,
}
"""What a reason to close says of a session."""


def normalise_request(row: Row, origin: Origin, id: str, time_us: int) -> Event:  # noqa: A002
    """Return the request in a row of dataset ``http_requests``, if it has passed Access.

    A row without the identity, or without what makes a request, is an event without a mapping.
    """
    row = mask_nested(row)  # again: an older version may have stored it with weaker rules
    headers = row.get("RequestHeaders")
    user = headers.get(IDENTITY) if isinstance(headers, Mapping) else None
    found = _read(row, _REQUEST)
    needed = {"ip_address", "host", "method", "status_code"}
    if not (user and isinstance(user, str) and needed <= found.keys()):
        return normalise_own(row, origin, id, time_us)
    uri = found.get("path", "")
    path, _, query = uri.partition("?")
    url = f"{found.get('scheme', 'https')}://{found['host']}{uri}"
    found |= {"user_name": user, "url": url, "path": path, "query": query}
    status = found["status_code"]
    found["outcome"] = FAILURE if status >= _REFUSED else SUCCESS if status else UNKNOWN
    return _traffic(row, origin, id, time_us, _REQUEST, found)


def normalise_session(row: Row, origin: Origin, id: str, time_us: int) -> Event:  # noqa: A002
    """Return the session in a row of dataset ``zero_trust_network_sessions``.

    A row without an id and an address is an event without a mapping.
    """
    row = mask_nested(row)
    found = _read(row, _SESSION)
    if not {"uid", "ip_address"} <= found.keys():
        return normalise_own(row, origin, id, time_us)
    found["transport"] = found.get("transport", "").lower()
    found["outcome"] = _CLOSED.get(found.get("reason", ""), UNKNOWN)
    return _traffic(row, origin, id, time_us, _SESSION, found)


def _read(row: Row, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of ``Traffic`` that the row has; nothing of a row that was malformed."""
    if MALFORMED_KEY in row:
        return {}
    return {field: row[key] for field, key in names.items() if _fits(field, row.get(key))}


def _fits(field: str, value: Any) -> bool:
    if field in _MOST:
        return type(value) is int and 0 <= value <= _MOST[field]
    if not isinstance(value, str) or not value:
        return False
    if field in {"ip_address", "dst_ip"}:
        return ip_version(value) > 0
    return field != "country" or value.upper() in COUNTRIES


def _traffic(
    row: Row,
    origin: Origin,
    id: str,  # noqa: A002
    time_us: int,
    names: Mapping[str, str],
    found: dict[str, Any],
) -> Traffic:
    given = [(field, key) for field, key in names.items() if row.get(key) not in _EMPTY]
    odd = [key for field, key in given if not _fits(field, row[key])]
    known = {*names.values()}.difference(odd)
    begin, end = (moment_us(row.get(key)) for key in _TIMES[names["uid"]])
    duration = 0 if begin is None or end is None else (end - begin) // 1000
    has_time = (begin if "method" in found else end) is not None
    if "country" in found:
        found["country"] = found["country"].upper()
    if is_email(found.get("user_name", "")):
        found["email"] = found["user_name"]
    return Traffic(
        origin,
        id=id,
        time_us=time_us,
        row=row,
        quality=tuple(odd if has_time else ["time", *odd]),
        extra={k: v for k, v in row.items() if k not in known and v not in _EMPTY},
        duration_ms=duration if 0 < duration <= _LONGEST_MS else None,
        **found,
    )


LOGINS = "access_requests"
"""The log of logins: its dataset, and the stream that is polled."""
TWINS: Mapping[str, str] = {LOGINS: LOGINS, "audit_logs_v2": "account_audit"}
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
