"""The format ``ocsf``: which mapping serves which event, and in which version."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import ClassVar, Literal

from pydantic import Field

from forwarder.core.identity import dumps
from forwarder.core.schema import (
    FAILURE,
    AdminActivity,
    Event,
    Login,
    OwnEvent,
    Provisioning,
    Traffic,
)
from forwarder.formats.json_events import USER_TYPES, JsonEvents, Mappings, Object, filled
from forwarder.formats.ocsf_activity import map_activity
from forwarder.formats.ocsf_classes import (
    ACCESS,
    ACTOR_APP,
    ADDABLE,
    ANY_TEXT,
    APP_UPDATE,
    APPLICATION_LIFECYCLE,
    AUTH_FACTORS,
    AUTHENTICATION,
    COUNTRIES,
    HIGH,
    INFORMATIONAL,
    MEDIUM,
    OTHER,
    SECURITY_CONTROL,
    SERVICE_USERS,
    UID_OBSERVABLES,
    Version,
    classify,
    cut,
    describe,
    observables,
    status_of,
)
from forwarder.formats.ocsf_provisioning import map_provisioning
from forwarder.formats.ocsf_traffic import map_traffic
from forwarder.transport.settings import PluginSettings


class OcsfConfig(PluginSettings):
    """What a sink with ``format: ocsf`` takes."""

    ocsf_version: Literal["1.1.0", "1.3.0", "1.5.0", "1.7.0", "1.8.0", "1.9.0"] = Field(
        "1.8.0",
        description="schema to follow; 1.9.0 is written without an offline check of its schema",
    )
    raw_data: bool = Field(
        default=False, description="also send the row as received, as the text raw_data"
    )


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
# It is known that these speak none of OCSF's protocols: Other, not Unknown.
_WITHOUT_PROTOCOL = frozenset({"onetimepin", "nonidentity"})
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
_USER_TYPES = {"user": (1, "User"), "service": (4, "Service")}
_ONE_TIME_PIN = {"factor_type_id": 7, "factor_type": "OTP", "provider": "Cloudflare Access"}


def map_login(login: Login, version: Version) -> Object:
    """Return the Authentication event of ``login``."""
    severity = MEDIUM if login.outcome == FAILURE else INFORMATIONAL
    activity_id, activity = _ACTIVITIES.get(login.action, (OTHER, login.action))
    host = version.hostname(login.host)
    controlled = version.has(SECURITY_CONTROL)
    described = describe(
        login,
        version,
        ["cloud", "security_control"] if controlled else ["cloud"],
        ACCESS,
        event_code=login.action,
        log_name=login.origin.stream,
        log_provider="Cloudflare",
        original_time=login.created_at,
    )
    if login.network:
        described["metadata"].setdefault("labels", []).append(f"network:{login.network}")
    return filled(
        {
            **classify(AUTHENTICATION, activity_id, activity, severity),
            **status_of(login.outcome),
            **(_CONTROL[login.allowed] if controlled else {}),
            "message": login.message,
            "count": login.login_count,
            **described,
            **_protocol(login.connection),
            "auth_factors": _factors(login, version),
            "is_remote": True,
            "user": _login_user(login, version),
            "actor": _login_actor(login, version),
            "src_endpoint": _source(login),
            # A port alone is no endpoint: OCSF wants a name or an address with it.
            "dst_endpoint": filled({"hostname": host, "port": login.port if host else None}),
            "service": _service(login),
            "http_request": filled({"uid": login.ray_id, "url": _url(login, host)}),
            "observables": _login_observables(login, version),
            "unmapped": _login_unmapped(login, version),
        }
    )


def _protocol(connection: str) -> Object:
    """Return the protocol behind a kind of identity provider; a name of the tenant's says none."""
    if connection in _WITHOUT_PROTOCOL:
        return {"auth_protocol_id": OTHER, "auth_protocol": "Other"}
    number, caption = _PROTOCOLS.get(connection, (0, "Unknown"))
    return {"auth_protocol_id": number, "auth_protocol": caption}


def _address(login: Login, version: Version) -> str:
    """Return the user's address if OCSF takes it for one; it knows ASCII only."""
    return version.email(login.user_email) if login.user_kind == "email" else ""


def _factors(login: Login, version: Version) -> list[Object]:
    address = _address(login, version)
    if login.connection != "onetimepin" or not address or not version.has(AUTH_FACTORS):
        return []
    return [{**_ONE_TIME_PIN, "email_addr": address}]


def _login_user(login: Login, version: Version) -> Object:
    kind = USER_TYPES.get(login.user_kind, "")
    if not login.user:
        kind = "service" if login.connection == "nonidentity" else ""
    number, caption = _USER_TYPES.get(kind, (0, "Unknown"))
    if kind == "service" and not version.has(SERVICE_USERS):
        number = OTHER
    # OCSF takes no user without a name or a uid, so nobody has a placeholder for a name.
    nobody = "non_identity" if kind == "service" else "unknown"
    return filled(
        {
            "name": login.user_email or ("" if login.user_id else nobody),
            "email_addr": _address(login, version),
            "uid": login.user_id,
            "type_id": number,
            "type": caption,
        }
    )


def _login_actor(login: Login, version: Version) -> Object:
    # Before 1.3 an actor had to be a process, a user or a session.
    if not version.has(ACTOR_APP):
        return {}
    idp = filled({"name": login.connection})
    return filled({"app_name": "Cloudflare Access", "idp": idp})


def _source(login: Login) -> Object:
    """Return the endpoint; OCSF has none without an address."""
    if not login.ip_address:
        return {}
    return filled({"ip": login.ip_address, "location": filled({"country": login.country})})


def _service(login: Login) -> Object:
    name = login.app_name or login.app_domain
    service = filled({"name": name, "uid": login.app_uid})
    # Authentication needs a service or a dst_endpoint, and a login may have no host.
    return service or {"name": "Cloudflare Access"}


def _url(login: Login, host: str) -> Object:
    if not login.url:
        return {}
    return filled(
        {
            "url_string": login.url,
            "scheme": "https",
            "hostname": host,
            "port": login.port,
            "path": login.path,
            "query_string": login.query,
        }
    )


def _login_observables(login: Login, version: Version) -> list[Object]:
    address = _address(login, version)
    country = login.country if login.ip_address and version.has(COUNTRIES) else ""
    return observables(
        ("user.email_addr", 5, "Email Address", address),
        ("user.name", 4, "User Name", "" if address else login.user_email),
        ("user.uid", 31, "", login.user_id if version.has(UID_OBSERVABLES) else ""),
        ("src_endpoint.ip", 2, "IP Address", login.ip_address),
        ("src_endpoint.location.country", 14, "Country", country),
        ("dst_endpoint.hostname", 1, "Hostname", version.hostname(login.host)),
    )


def _login_unmapped(login: Login, version: Version) -> Object:
    # A location hangs on src_endpoint, which is left out without an address.
    homeless = "" if login.ip_address else login.country
    return {
        **filled(
            {
                "app_type": login.app_type,
                "country": homeless,
                "network": login.network,
                "connection": "" if version.has(ACTOR_APP) else login.connection,
                "sample_interval": login.sample_interval,
            }
        ),
        **login.extra,
    }


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
    # 1.1 has no Update of an application.
    if activity == "Update" and not version.has(APP_UPDATE):
        activity_id, activity = OTHER, event.action
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
            "message": event.message,
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


class OcsfFormat(JsonEvents):
    """Events of OCSF: who logged in, which account, group or setting was changed, and our own."""

    Config: ClassVar[type[OcsfConfig]] = OcsfConfig
    summary: ClassVar[str] = "OCSF events as JSON, 1.8.0 unless set otherwise"
    kinds: ClassVar[Mappings] = {
        Login: map_login,
        Provisioning: map_provisioning,
        AdminActivity: map_activity,
        Traffic: map_traffic,
        OwnEvent: map_own,
    }

    def __init__(self, config: OcsfConfig, added: Mapping[str, str] | None = None) -> None:
        """Take the settings and the fields to add (dotted paths)."""
        self._version = Version.of(config.ocsf_version)
        # A template passes on texts and times: raw_data is the whole row, and old versions have
        # patterns that a text may not fit.
        templates = self._version.has(ANY_TEXT) and not config.raw_data
        super().__init__(config, added, templates=templates)

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
        target = self.kinds[type(event)](event, self._version)
        if not self._version.has(ANY_TEXT):
            target = cut(target)
        if self._config.raw_data:
            target["raw_data"] = dumps(event.row).decode()
        return target

    @staticmethod
    def time_text(time_us: int) -> str:
        """Return milliseconds since 1970, as OCSF has it."""
        return str(time_us // 1000)
