"""Requests and sessions: what is behind a login. No log that is polled has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwarder.core.masking import mask_nested
from forwarder.core.own_events import normalise_own
from forwarder.core.schema import (
    FAILURE,
    MALFORMED_KEY,
    SUCCESS,
    UNKNOWN,
    Event,
    Origin,
    Traffic,
    is_email,
)
from forwarder.core.timing import moment_us
from forwarder.sources.cloudflare_access.login_mapping import COUNTRIES, ip_version

Row = Mapping[str, Any]

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
