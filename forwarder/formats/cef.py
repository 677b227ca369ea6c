"""The format ``cef``: ArcSight's Common Event Format, version 0."""

from __future__ import annotations

from typing import ClassVar

from forwarder.core.schema import (
    FAILURE,
    AdminActivity,
    Event,
    Login,
    Member,
    OwnEvent,
    Provisioning,
    Traffic,
)
from forwarder.formats.lines import (
    PRODUCT,
    PRODUCT_VERSION,
    VENDOR,
    EventLines,
    Fields,
    Mappings,
    clean,
    members_text,
)

# The lengths of ArcSight's dictionary of keys.
_CUSTOM, _USUAL = 4000, 1023
_LIMITS = {
    "act": 63,
    "app": 31,
    "deviceExternalId": 255,
    "externalId": 40,
    "outcome": 63,
    **{f"cs{number}": _CUSTOM for number in range(1, 7)},
}
"""Bytes a value may have, by key; all others ``_USUAL``."""
_CLASS_LIMIT, _NAME_LIMIT = 1023, 512


def _pair(key: str, text: str) -> str:
    # Cut, then escape: a cut could halve an escape. The backslash comes first, or it would
    # double those that escape an equals sign.
    value = clean(text, _LIMITS.get(key, _USUAL)).replace("\\", "\\\\").replace("=", "\\=")
    return f"{key}={value}"


def _head(class_id: str, name: str, severity: int) -> str:
    # Unlike in the pairs behind it, an equals sign in the head needs no escape.
    texts = clean(class_id, _CLASS_LIMIT), clean(name, _NAME_LIMIT)
    escaped = (text.replace("\\", "\\\\").replace("|", "\\|") for text in texts)
    return "|".join((*escaped, str(severity)))


def _numbered(key: str, *named: tuple[str, str]) -> Fields:
    """Return texts ``key`` 1, ``key`` 2, ... with a label beside each that is not empty."""
    fields: Fields = {}
    for number, (label, text) in enumerate(named, start=1):
        if text:
            # An empty text keeps its number, so cs3 means the same in every event of a kind.
            fields |= {f"{key}{number}": text, f"{key}{number}Label": label}
    return fields


def _shared(event: Event, category: str) -> Fields:
    return {
        "rt": str(event.time_us // 1000),
        "cat": category,
        "act": event.action,
        "outcome": event.outcome,
        "externalId": event.id,
        "deviceExternalId": event.origin.account_id,
    }


def _login_head(login: Login) -> str:
    result = {True: " allowed", False: " denied", None: ""}[login.allowed]
    action = login.action or "event"
    severity = 5 if login.outcome == FAILURE else 2
    return _head(f"access.{action}", f"Access {action}{result}", severity)


def _login_fields(login: Login) -> Fields:
    return {
        **_shared(login, "Authentication"),
        # In CEF act is what the device did, not what the user tried.
        "act": {True: "allowed", False: "denied", None: ""}[login.allowed],
        "suser": login.user_email,
        "suid": login.user_id,
        **_source(login.ip_address, login.ip_version),
        "dhost": login.host,
        "dpt": login.port,
        "request": login.url,
        "destinationServiceName": login.app_name,
        **_numbered(
            "cs",
            ("connection", login.connection),
            ("appUid", login.app_uid),
            ("country", login.country),
            ("appType", login.app_type),
            ("rayId", login.ray_id),
            ("quality", " ".join(login.quality)),
        ),
        **_numbered("flexString", ("network", login.network)),
        "cfp1": login.sample_interval,
        "cfp1Label": "" if login.sample_interval is None else "sampleInterval",
        "cnt": login.login_count,
    }


def _source(ip: str, version: int) -> Fields:
    # The dictionary has IPv4 addresses only in src; ArcSight drops others.
    if version != 6:  # noqa: PLR2004 - the protocol's name
        return {"src": ip}
    return {"c6a2": ip, "c6a2Label": "Source IPv6 Address"}


def _ends(traffic: Traffic) -> Fields:
    source, ip = traffic.ip_address, traffic.dst_ip
    fields = _source(source, 6 if ":" in source else 4)
    if ":" in ip:
        return {**fields, "c6a3": ip, "c6a3Label": "Destination IPv6 Address"}
    return {**fields, "dst": ip}


def _change_head(change: Provisioning) -> str:
    resource, action = change.resource or "unknown", change.action or "unknown"
    # A removal that failed leaves somebody with access: worse than any other failure.
    severity = 3 if change.outcome != FAILURE else 8 if change.takes_away else 6
    return _head(f"scim.{resource}.{action}", f"SCIM {resource} {action}", severity)


def _change_fields(change: Provisioning) -> Fields:
    group = change.resource == "group"
    name, identity = change.user_name, change.cf_resource_id
    if group:
        member = change.only_member or Member("")
        name, identity = member.display or member.value, member.value
    return {
        **_shared(change, "Provisioning"),
        "duser": name,
        "duid": identity,
        "requestMethod": change.method,
        "reason": change.error_description,
        "msg": " ".join(f"quality:{name}" for name in change.quality),
        # There are six custom texts; the flexible ones take what does not fit.
        **_numbered(
            "cs",
            ("idpId", change.idp_id),
            ("idpResourceId", change.idp_resource_id),
            ("groupId", change.cf_resource_id) if group else ("resourceType", change.resource_type),
            ("groupName", change.group_name),
            ("membersAdded", members_text(change.members_added))
            if group
            else ("changed", " ".join(change.changed)),
            ("requestBody", change.request_body),
        ),
        **_numbered(
            "flexString",
            ("membersRemoved", members_text(change.members_removed)),
            ("membersSet", members_text(change.members_set)),
        ),
    }


def _activity_head(activity: AdminActivity) -> str:
    kind, action = activity.kind or "unknown", activity.activity or "unknown"
    severity = 6 if activity.outcome == FAILURE else 3
    name = activity.description or f"Audit {kind} {action}"
    return _head(f"audit.{action if activity.is_login else f'{kind}.{action}'}", name, severity)


def _activity_fields(activity: AdminActivity) -> Fields:
    status = activity.status_code
    return {
        **_shared(activity, "Authentication" if activity.is_login else "Audit"),
        **_source(activity.ip_address, activity.ip_version),
        "suser": activity.user,
        "suid": activity.actor_id,
        "requestMethod": activity.method,
        "request": activity.uri,
        "requestClientApplication": activity.user_agent,
        "reason": "" if status is None else f"HTTP {status}",
        "msg": " ".join(f"quality:{name}" for name in activity.quality),
        # There are six custom texts; the flexible ones take what does not fit.
        **_numbered(
            "cs",
            ("product", activity.product),
            ("resourceType", activity.resource_type),
            ("token", activity.token_name or activity.token_id),
            ("actorContext", activity.actor_context),
            ("rowId", activity.row_id),
            ("resourceId", activity.resource_id),
        ),
        **_numbered("flexString", ("rayId", activity.ray_id), ("zone", activity.zone_name)),
    }


def _traffic_head(traffic: Traffic) -> str:
    severity = 3 if traffic.outcome == FAILURE else 2
    if not traffic.method:
        return _head("ztna.session", "Network session", severity)
    return _head("http.request", f"HTTP {traffic.method}", severity)


def _traffic_fields(traffic: Traffic) -> Fields:
    status = traffic.status_code
    return {
        **_shared(traffic, "Web" if traffic.method else "Network"),
        "act": "allowed",
        "suser": traffic.user_name,
        "suid": traffic.user_id,
        **_ends(traffic),
        "spt": traffic.port,
        "dhost": traffic.host,
        "dpt": traffic.dst_port,
        "proto": traffic.transport.upper(),
        "app": traffic.protocol,
        "request": traffic.url,
        "requestMethod": traffic.method,
        "requestClientApplication": traffic.user_agent,
        "requestContext": traffic.referrer,
        # Inbound is from the source to the destination.
        "in": traffic.sent,
        "out": traffic.received,
        "reason": traffic.reason if status is None else f"HTTP {status}",
        "shost": traffic.device_name,
        **_numbered(
            "cs",
            ("rayId" if traffic.method else "sessionId", traffic.uid),
            ("deviceId", traffic.device_id),
            ("country", traffic.country),
            ("durationMs", str(traffic.duration_ms or "")),
            ("quality", " ".join(traffic.quality)),
        ),
    }


def _own_head(event: OwnEvent) -> str:
    action = event.action or "event"
    severity = 7 if event.outcome == FAILURE else 1
    return _head(f"forwarder.{action}", f"Forwarder {action}", severity)


def _own_fields(event: OwnEvent) -> Fields:
    return {
        **_shared(event, "Forwarder"),
        "reason": event.reason,
        "msg": event.detail,
        "cnt": event.rows,
        **_numbered(
            "cs",
            ("stream", event.about_stream),
            ("sink", event.about_sink),
            ("from", event.since),
            ("to", event.until),
            ("version", event.version),
            ("quality", " ".join(event.quality)),
        ),
    }


class CefFormat(EventLines):
    r"""``CEF:0|Cloudflare|Access|1|access.login|Access login allowed|2|key=value ...``."""

    summary: ClassVar[str] = "ArcSight Common Event Format 0, one line"
    name = "CEF"
    kinds: ClassVar[Mappings] = {
        Login: (_login_head, _login_fields),
        Provisioning: (_change_head, _change_fields),
        AdminActivity: (_activity_head, _activity_fields),
        Traffic: (_traffic_head, _traffic_fields),
        OwnEvent: (_own_head, _own_fields),
    }

    def render(self, event: Event) -> bytes:
        """Map ``event`` and write it as one line."""
        head_of, fields_of = self.kinds[type(event)]
        pairs = " ".join(_pair(*item) for item in self.filled(fields_of(event)).items())
        return f"CEF:0|{VENDOR}|{PRODUCT}|{PRODUCT_VERSION}|{head_of(event)}|{pairs}".encode()
