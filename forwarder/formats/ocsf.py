"""The format ``ocsf``: which mapping serves which event, and in which version."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import ClassVar, Literal

from pydantic import Field

from forwarder.core.identity import dumps
from forwarder.core.schema import FAILURE, Event, Login, OwnEvent, Provisioning
from forwarder.formats.json_events import JsonEvents, Object, filled
from forwarder.formats.ocsf_classes import (
    ACCESS,
    ADDABLE,
    APPLICATION_LIFECYCLE,
    AUTHENTICATION,
    HIGH,
    INFORMATIONAL,
    LOW,
    OTHER,
    Version,
    classify,
    describe,
    observables,
    status_of,
)
from forwarder.formats.ocsf_provisioning import map_provisioning
from forwarder.transport.settings import PluginSettings


class OcsfConfig(PluginSettings):
    """What a sink with ``format: ocsf`` takes."""

    ocsf_version: Literal["1.7.0", "1.8.0", "1.9.0"] = Field(
        "1.8.0",
        description="schema to follow; 1.9.0 is written without an offline check of its schema",
    )
    raw_data: bool = Field(
        default=False, description="also send the row as received, as the text raw_data"
    )


class OcsfFormat(JsonEvents):
    """Authentication, Account Change, Group Management and Application Lifecycle events."""

    Config: ClassVar[type[OcsfConfig]] = OcsfConfig
    summary: ClassVar[str] = "OCSF events as JSON, 1.8.0 unless set otherwise"

    def __init__(self, config: OcsfConfig, added: Mapping[str, str] | None = None) -> None:
        """Take the settings and the fields to add (dotted paths)."""
        # A template passes on texts and times; raw_data is the whole row.
        super().__init__(config, added, templates=not config.raw_data)
        self._version = Version.of(config.ocsf_version)

    @staticmethod
    def nearest_path(path: str) -> str:
        """Return ``path`` if every event may have a text there, else the nearest such path."""
        head, dot, rest = path.partition(".")
        if head in ADDABLE:
            return path
        found = get_close_matches(head, ADDABLE, 1)
        return f"{found[0]}{dot}{rest}" if found else f"unmapped.{path}"

    def map(self, event: Event) -> Object:
        """Return ``event`` as an object of the class that fits it."""
        version = self._version
        if isinstance(event, Login):
            target = map_login(event, version)
        elif isinstance(event, Provisioning):
            target = map_provisioning(event, version)
        else:
            target = map_own(event, version)
        if self._config.raw_data:
            target["raw_data"] = dumps(event.row).decode()
        return target

    @staticmethod
    def time_text(time_us: int) -> str:
        """Return milliseconds since 1970, as OCSF has it."""
        return str(time_us // 1000)


_PROFILES = ["cloud", "security_control"]
_ACTIVITIES = {"login": (1, "Logon"), "logout": (2, "Logoff"), "": (0, "Unknown")}
_OPENID, _SAML, _OAUTH = (4, "OpenID"), (5, "SAML"), (6, "OAUTH 2.0")
_PROTOCOLS = {
    "azureAD": _OPENID,
    "centrify": _OPENID,
    "cloudflare": _OPENID,
    "facebook": _OAUTH,
    "github": _OAUTH,
    "google": _OAUTH,
    "google-apps": _OAUTH,
    "linkedin": _OAUTH,
    "oidc": _OPENID,
    "okta": _OPENID,
    "onelogin": _OPENID,
    "pingone": _OPENID,
    "saml": _SAML,
    "yandex": _OAUTH,
}
"""Kinds of identity provider, and the protocol that Access speaks with each."""
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


def map_login(login: Login, version: Version) -> Object:
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
            "user": _login_user(login),
            "actor": filled({"app_name": "Cloudflare Access", "idp": _idp(login.connection)}),
            "src_endpoint": _source(login),
            "dst_endpoint": filled({"hostname": login.host}),
            "service": _service(login),
            "http_request": _login_request(login),
            "observables": observables(
                ("user.email_addr", 5, "Email Address", _address(login)),
                ("user.name", 4, "User Name", "" if _address(login) else login.user_email),
                ("src_endpoint.ip", 2, "IP Address", login.ip_address),
            ),
            "unmapped": _login_unmapped(login),
        }
    )


def _protocol(connection: str) -> Object:
    """Return the protocol behind a kind of identity provider; its name where none is defined."""
    if not connection:
        return {"auth_protocol_id": 0, "auth_protocol": "Unknown"}
    number, caption = _PROTOCOLS.get(connection, (OTHER, connection))
    return {"auth_protocol_id": number, "auth_protocol": caption}


def _address(login: Login) -> str:
    return login.user_email if login.user_kind == "email" else ""


def _login_user(login: Login) -> Object:
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


def _login_request(login: Login) -> Object:
    url = {"url_string": login.app_domain, "path": login.path} if login.path else {}
    return filled({"uid": login.ray_id, "url": url})


def _login_unmapped(login: Login) -> Object:
    homeless = "" if login.ip_address else login.country
    return {**filled({"app_type": login.app_type, "country": homeless}), **login.extra}


_OWN_ACTIVITIES = {
    "start": (3, "Start"),
    "stop": (4, "Stop"),
    "config_reloaded": (8, "Update"),
    "": (0, "Unknown"),
}
_FORWARDER = {"name": "forwarder", "vendor_name": "cloudflare-access-forwarder"}


def map_own(event: OwnEvent, version: Version) -> Object:
    """Return the event; what is particular to the forwarder is in ``unmapped``."""
    activity_id, activity = _OWN_ACTIVITIES.get(event.action, (OTHER, event.action))
    severity = HIGH if event.outcome == FAILURE else INFORMATIONAL
    product = filled({**_FORWARDER, "version": event.version})
    particular = {
        "stream": event.about_stream,
        "sink": event.about_sink,
        "reason": event.reason,
        "from": event.since,
        "to": event.until,
        "rows": event.rows,
    }
    return filled(
        {
            **classify(APPLICATION_LIFECYCLE, activity_id, activity, severity),
            **status_of(event.outcome),
            "status_detail": event.reason,
            "message": event.detail,
            **describe(
                event,
                version,
                ["cloud"],
                product,
                event_code=event.action,
                log_name="forwarder",
                log_provider="forwarder",
            ),
            "app": product,
            "unmapped": {**filled(particular), **event.extra},
        }
    )
