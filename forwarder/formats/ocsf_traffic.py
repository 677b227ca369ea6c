"""A request as an OCSF HTTP Activity, a session as a Network Activity."""

from __future__ import annotations

from forwarder.core.schema import FAILURE, Traffic
from forwarder.formats.json_events import Object, filled
from forwarder.formats.ocsf_classes import (
    ACCESS,
    HTTP_ACTIVITY,
    INFORMATIONAL,
    NETWORK_ACTIVITY,
    OTHER,
    PATCH_METHOD,
    Version,
    classify,
    describe,
    observables,
    status_of,
)

_METHODS = {
    "CONNECT": (1, "Connect"),
    "DELETE": (2, "Delete"),
    "GET": (3, "Get"),
    "HEAD": (4, "Head"),
    "OPTIONS": (5, "Options"),
    "POST": (6, "Post"),
    "PUT": (7, "Put"),
    "TRACE": (8, "Trace"),
    "PATCH": (9, "Patch"),
}
_ENDS = {"PROXY_CONN_REFUSED": (5, "Refuse")}


def map_traffic(traffic: Traffic, version: Version) -> Object:
    """Return the event of ``traffic``; who it was is in ``actor``."""
    kind = HTTP_ACTIVITY if traffic.method else NETWORK_ACTIVITY
    method = traffic.method if _is_method(traffic.method, version) else ""
    ended = (4, "Fail") if traffic.outcome == FAILURE else (2, "Close")
    activity = _ENDS.get(traffic.reason, ended)
    if traffic.method:
        activity = _METHODS[method] if method else (OTHER, traffic.method)
    status, host = traffic.status_code, version.hostname(traffic.host)
    location = filled({"country": traffic.country})
    target = filled({"hostname": host, "ip": traffic.dst_ip})
    return filled(
        {
            **classify(kind, *activity, INFORMATIONAL),
            **status_of(traffic.outcome),
            "status_code": "" if status is None else str(status),
            "status_detail": traffic.reason,
            "message": traffic.message,
            # The actor is an attribute of the profile host.
            **describe(
                traffic,
                version,
                ["cloud", "host"] if traffic.user else ["cloud"],
                ACCESS,
                event_code=traffic.action,
                log_name=traffic.origin.stream,
                log_provider="Cloudflare",
            ),
            "duration": traffic.duration_ms,
            "actor": {"user": _user(traffic, version)} if traffic.user else {},
            "src_endpoint": filled(
                {
                    "ip": traffic.ip_address,
                    "port": traffic.port,
                    "uid": traffic.device_id,
                    "name": traffic.device_name,
                    "location": location,
                }
            ),
            # Old versions demand a destination; one of which nothing is known has no name.
            "dst_endpoint": filled({**(target or {"name": "unknown"}), "port": traffic.dst_port}),
            "traffic": filled({"bytes_out": traffic.sent, "bytes_in": traffic.received}),
            **(_exchange(traffic, method, host) if traffic.method else _connection(traffic)),
            "observables": _observables(traffic, version, host),
            "unmapped": {
                **({} if method else filled({"http_method": traffic.method})),
                **traffic.extra,
            },
        }
    )


def _is_method(method: str, version: Version) -> bool:
    return method in _METHODS and (method != "PATCH" or version.has(PATCH_METHOD))


def _user(traffic: Traffic, version: Version) -> Object:
    email = version.email(traffic.email)
    return filled({"name": traffic.user_name, "uid": traffic.user_id, "email_addr": email})


def _exchange(traffic: Traffic, method: str, host: str) -> Object:
    url = {
        "url_string": traffic.url,
        "scheme": traffic.scheme,
        "hostname": host,
        "path": traffic.path,
        "query_string": traffic.query,
    }
    return {
        "http_request": filled(
            {
                "uid": traffic.uid,
                "http_method": method,
                "url": filled(url),
                "user_agent": traffic.user_agent,
                "referrer": traffic.referrer,
                "version": traffic.protocol,
            }
        ),
        "http_response": {"code": traffic.status_code},
    }


def _connection(traffic: Traffic) -> Object:
    info = {"uid": traffic.uid, "protocol_name": traffic.transport}
    return {
        "connection_info": {**filled(info), "direction_id": 0, "direction": "Unknown"},
        "app_name": traffic.protocol,
    }


def _observables(traffic: Traffic, version: Version, host: str) -> list[Object]:
    email = version.email(traffic.email)
    return observables(
        ("actor.user.email_addr", 5, "Email Address", email),
        ("actor.user.name", 4, "User Name", "" if email else traffic.user_name),
        ("src_endpoint.ip", 2, "IP Address", traffic.ip_address),
        ("dst_endpoint.ip", 2, "IP Address", traffic.dst_ip),
        ("dst_endpoint.hostname", 1, "Hostname", host),
    )
