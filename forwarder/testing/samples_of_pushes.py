"""Sample rows of what is only pushed: requests and sessions behind Access, as Logpush writes them.

Names, addresses and ids are invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

# What separates or ends texts in some format.
_HOSTILE = 'x|y=z\\n"<b>\u202ea\r\nCEF:0|fake\tend \x00\x7f'
_PASSED = {"cf-access-user": "ann@example.com"}
REQUEST: Mapping[str, Any] = orjson.loads(
    b'{"RayID":"8e9b1c60ef9e1c9a","ClientIP":"203.0.113.10","ClientSrcPort":50123,'
    b'"ClientCountry":"us","ClientRequestHost":"kibana.example.com","ClientRequestMethod":"GET",'
    b'"ClientRequestURI":"/app/home?tab=1","ClientRequestScheme":"https",'
    b'"ClientRequestProtocol":"HTTP/2","ClientRequestUserAgent":"Mozilla/5.0",'
    b'"ClientRequestReferer":"https://kibana.example.com/","ClientRequestBytes":1200,'
    b'"EdgeStartTimestamp":"2026-07-02T15:04:05.123456789Z",'
    b'"EdgeEndTimestamp":"2026-07-02T15:04:05.323456789Z","EdgeResponseStatus":200,'
    b'"EdgeResponseBytes":5300,"OriginIP":"192.0.2.44","WorkerSubrequest":false,'
    b'"RequestHeaders":{"cf-access-user":"ann@example.com","x-team":"search"}}'
)
_NEEDED = ("ClientIP", "ClientRequestHost", "EdgeResponseStatus")
HTTP_REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "request": REQUEST,
    "request_refused": {
        **REQUEST,
        "ClientIP": "2001:db8::c0de",
        "OriginIP": "2001:db8::1",
        "ClientRequestMethod": "PATCH",
        "ClientRequestURI": "/api",
        "EdgeResponseStatus": 403,
        "RequestHeaders": {"cf-access-user": "printer-17"},
    },
    # Without the identity nobody knows whether it passed Access.
    "request_without_identity": {**REQUEST, "RequestHeaders": {"x-team": "search"}},
    "request_few_fields": {
        **{key: REQUEST[key] for key in _NEEDED},
        "ClientRequestMethod": "PURGE",
        "RequestHeaders": _PASSED,
    },
    "request_hostile": {
        **{key: _HOSTILE for key in REQUEST if key.startswith("Client")},
        "ClientIP": "203.0.113.10",
        "EdgeResponseStatus": 200,
        "EdgeResponseBytes": -1,
        "OriginIP": _HOSTILE,
        "EdgeStartTimestamp": _HOSTILE,
        "RequestHeaders": {"cf-access-user": _HOSTILE, _HOSTILE: _HOSTILE},
    },
    "request_odd": {"RayID": 17, "ClientIP": ["x"], "RequestHeaders": "none"},
}
SESSION: Mapping[str, Any] = orjson.loads(
    b'{"SessionID":"5d1f8c2e0b9a4c7d8e6f1a2b3c4d5e6f","Email":"ann@example.com",'
    b'"UserID":"b4bf51f2-c72b-50b1-a179-20b76a49b18b","SourceIP":"203.0.113.10",'
    b'"SourcePort":50123,"OriginIP":"10.1.2.3","OriginPort":22,'
    b'"ResolvedFQDN":"db.internal.example.com","Protocol":"TCP","DetectedProtocol":"SSH",'
    b'"BytesSent":12000,"BytesReceived":48000,"ConnectionCloseReason":"CLIENT_CLOSED",'
    b'"DeviceID":"083a8354-d56c-11ed-9771-6a842b111aff","DeviceName":"ann-laptop",'
    b'"SessionStartTime":"2026-07-02T15:03:05Z","SessionEndTime":"2026-07-02T15:04:05.5Z",'
    b'"IngressColoName":"FRA"}'
)


def _without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in SESSION.items() if key not in keys}


SESSIONS: Mapping[str, Mapping[str, Any]] = {
    "session": SESSION,
    "session_refused": {**SESSION, "ConnectionCloseReason": "PROXY_CONN_REFUSED"},
    "session_unreachable": {
        **_without("ResolvedFQDN", "OriginPort", "Email"),
        "OriginIP": "2001:db8::1",
        "ConnectionCloseReason": "ORIGIN_UNREACHABLE",
    },
    "session_udp": {
        **_without("ConnectionCloseReason", "OriginIP", "ResolvedFQDN", "DeviceName"),
        "Protocol": "UDP",
        "SessionEndTime": 1_783_004_645_500_000_000,
    },
    "session_hostile": {
        **dict.fromkeys(SESSION, _HOSTILE),
        "SourceIP": "203.0.113.10",
        "BytesSent": True,
        "SourcePort": 70_000,
    },
    "session_odd": {"SessionID": 17, "SessionEndTime": None, "SourceIP": "nowhere"},
}
