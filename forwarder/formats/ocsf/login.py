"""A login as an OCSF Authentication event (3002)."""

from __future__ import annotations

from forwarder.core.login import CONNECTIONS, FAILURE, Login
from forwarder.formats.json_objects import Object, filled
from forwarder.formats.ocsf.classes import (
    AUTHENTICATION,
    INFORMATIONAL,
    LOW,
    OTHER,
    classify,
    describe,
    observables,
    status_of,
)

ACCESS = {"name": "Access", "vendor_name": "Cloudflare"}
_PROFILES = ["cloud", "security_control"]
_ACTIVITIES = {"login": (1, "Logon"), "logout": (2, "Logoff"), "": (0, "Unknown")}
_PROTOCOLS = {"saml": (5, "SAML"), "openid": (4, "OpenID"), "oauth": (6, "OAUTH 2.0")}
_CONTROL = {
    True: {
        "action_id": 1,
        "action": "Allowed",
        "disposition_id": 1,
        "disposition": "Allowed",
    },
    False: {
        "action_id": 2,
        "action": "Denied",
        "disposition_id": 2,
        "disposition": "Blocked",
    },
    None: {"action_id": 0, "action": "Unknown", "disposition_id": 0, "disposition": "Unknown"},
}
_USER_TYPES = {
    "email": {"type_id": 1, "type": "User"},
    "service": {"type_id": 4, "type": "Service"},
}
_UNKNOWN_USER = {"type_id": 0, "type": "Unknown"}


def map_login(login: Login, version: str) -> Object:
    """Return the Authentication event of ``login``."""
    severity = LOW if login.outcome == FAILURE else INFORMATIONAL
    activity_id, activity = _ACTIVITIES.get(login.action, (OTHER, login.action))
    return filled(
        {
            **classify(AUTHENTICATION, activity_id, activity, severity),
            **status_of(login.outcome),
            **_CONTROL[login.allowed],
            **describe(
                login,
                version,
                _PROFILES,
                ACCESS,
                event_code=login.action,
                log_name="access_requests",
                log_provider="Cloudflare",
                original_time=login.created_at,
            ),
            **_protocol(login.connection),
            "user": _user(login),
            "actor": filled({"app_name": "Cloudflare Access", "idp": _idp(login.connection)}),
            "src_endpoint": _source(login),
            "dst_endpoint": filled({"hostname": login.host}),
            "service": _service(login),
            "http_request": _request(login),
            "observables": observables(
                ("user.email_addr", 5, "Email Address", _address(login)),
                ("user.name", 4, "User Name", "" if _address(login) else login.user_email),
                ("src_endpoint.ip", 2, "IP Address", login.ip_address),
            ),
            "unmapped": _unmapped(login),
        }
    )


def _protocol(connection: str) -> Object:
    """Return the protocol behind a kind of identity provider; its name where none is defined."""
    if not connection:
        return {"auth_protocol_id": 0, "auth_protocol": "Unknown"}
    number, caption = _PROTOCOLS.get(CONNECTIONS.get(connection, ""), (OTHER, connection))
    return {"auth_protocol_id": number, "auth_protocol": caption}


def _address(login: Login) -> str:
    return login.user_email if login.user_kind == "email" else ""


def _user(login: Login) -> Object:
    if not login.user:
        if login.connection == "nonidentity":
            return {"name": "non_identity", **_USER_TYPES["service"]}
        return {"name": "unknown", **_UNKNOWN_USER}
    return filled(
        {
            "name": login.user_email,
            "email_addr": _address(login),
            "uid": login.user_id,
            **_USER_TYPES.get(login.user_kind, _UNKNOWN_USER),
        }
    )


def _idp(connection: str) -> Object:
    return {"name": connection} if connection else {}


def _source(login: Login) -> Object:
    """Return the endpoint; OCSF has none without an address."""
    if not login.ip_address:
        return {}
    return filled({"ip": login.ip_address, "location": filled({"country": login.country})})


def _service(login: Login) -> Object:
    name = login.app_name or login.app_domain
    service = filled({"name": name, "uid": login.app_uid})
    return service or {"name": "Cloudflare Access"}


def _request(login: Login) -> Object:
    url = {"url_string": login.app_domain, "path": login.path} if login.path else {}
    return filled({"uid": login.ray_id, "url": url})


def _unmapped(login: Login) -> Object:
    homeless = "" if login.ip_address else login.country
    return {**filled({"app_type": login.app_type, "country": homeless}), **login.extra}
