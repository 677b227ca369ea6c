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

_NAMES = ("Connect", "Delete", "Get", "Head", "Options", "Post", "Put", "Trace", "Patch")
_METHODS = {name.upper(): (number, name) for number, name in enumerate(_NAMES, start=1)}
_CLOSE, _FAIL, _REFUSE = (2, "Close"), (4, "Fail"), (5, "Refuse")


def map_traffic(traffic: Traffic, version: Version) -> Object:
    """Return the event of ``traffic``; who it was is in ``actor``."""
    request, host = bool(traffic.method), version.hostname(traffic.host)
    known = traffic.method in _METHODS and (traffic.method != "PATCH" or version.has(PATCH_METHOD))
    method, odd = (traffic.method, "") if known else ("", traffic.method)
    ended = _FAIL if traffic.outcome == FAILURE else _CLOSE
    activity = _REFUSE if traffic.reason == "PROXY_CONN_REFUSED" else ended
    if request:
        activity = _METHODS.get(method, (OTHER, traffic.method))
    source = {"ip": traffic.ip_address, "port": traffic.port, "uid": traffic.device_id}
    location = filled({"country": traffic.country})
    target = filled({"hostname": host, "ip": traffic.dst_ip})
    status, email = traffic.status_code, version.email(traffic.email)
    user = filled({"name": traffic.user_name, "uid": traffic.user_id, "email_addr": email})
    return filled(
        {
            **classify(HTTP_ACTIVITY if request else NETWORK_ACTIVITY, *activity, INFORMATIONAL),
            **status_of(traffic.outcome),
            "status_code": "" if status is None else str(status),
            "status_detail": traffic.reason,
            "message": traffic.message,
            **describe(
                traffic,
                version,
                # Of these classes the actor is an attribute by the profile host.
                ["cloud", "host"] if user else ["cloud"],
                ACCESS,
                event_code=traffic.action,
                log_name=traffic.origin.stream,
                log_provider="Cloudflare",
            ),
            "duration": traffic.duration_ms,
            "actor": {"user": user} if user else {},
            "src_endpoint": filled({**source, "name": traffic.device_name, "location": location}),
            # Old versions demand a destination, also where nothing is known of it.
            "dst_endpoint": filled({**(target or {"name": "unknown"}), "port": traffic.dst_port}),
            "traffic": filled({"bytes_out": traffic.sent, "bytes_in": traffic.received}),
            **(_exchange(traffic, method, host) if request else _connection(traffic)),
            "observables": observables(
                ("actor.user.email_addr", 5, "Email Address", email),
                ("actor.user.name", 4, "User Name", "" if email else traffic.user_name),
                ("src_endpoint.ip", 2, "IP Address", traffic.ip_address),
                ("dst_endpoint.ip", 2, "IP Address", traffic.dst_ip),
                ("dst_endpoint.hostname", 1, "Hostname", host),
            ),
            "unmapped": {**filled({"http_method": odd}), **traffic.extra},
        }
    )


def _exchange(traffic: Traffic, method: str, host: str) -> Object:
    url = {"url_string": traffic.url, "scheme": traffic.scheme, "hostname": host}
    request = {
        "uid": traffic.uid,
        "http_method": method,
        "url": filled({**url, "path": traffic.path, "query_string": traffic.query}),
        "user_agent": traffic.user_agent,
        "referrer": traffic.referrer,
        "version": traffic.protocol,
    }
    return {"http_request": filled(request), "http_response": {"code": traffic.status_code}}


def _connection(traffic: Traffic) -> Object:
    info = filled({"uid": traffic.uid, "protocol_name": traffic.transport})
    return {
        "connection_info": {**info, "direction_id": 0, "direction": "Unknown"},
        "app_name": traffic.protocol,
    }
