"""The format ``leef``: IBM's Log Event Extended Format, version 2.0, for QRadar."""

from __future__ import annotations

from typing import ClassVar

from forwarder.core.schema import (
    FAILURE,
    AdminActivity,
    Event,
    Login,
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
    identifier,
    members_text,
)

_DELIMITER = "\t"
_EVENT_ID_LIMIT = 255
_LIMITS = {"usrName": 255, "requestBody": 4000}
_USUAL = 1024
"""Bytes a value may have, where ``_LIMITS`` says nothing else."""


def _shared(event: Event, category: str, severity: int) -> Fields:
    return {
        "cat": category,
        "devTime": str(event.time_us // 1000),
        # From 1 to 10 in LEEF, where CEF starts at 0.
        "sev": str(severity),
        "action": event.action,
        "outcome": event.outcome,
        "eventUid": event.id,
        "domain": event.origin.account_id,
        "quality": " ".join(event.quality),
    }


def _login_id(login: Login) -> str:
    result = {True: "_allowed", False: "_denied", None: ""}[login.allowed]
    return f"access_{login.action or 'event'}{result}"


def _login_fields(login: Login) -> Fields:
    return {
        **_shared(login, "Authentication", 5 if login.outcome == FAILURE else 2),
        "src": login.ip_address,
        "usrName": login.user_email or login.user_id,
        "userId": login.user_id,
        "realm": login.connection,
        "resource": login.host,
        "dstPort": login.port,
        "url": login.url,
        "appName": login.app_name,
        "appUid": login.app_uid,
        "appType": login.app_type,
        "country": login.country,
        "network": login.network,
        "rayId": login.ray_id,
        "count": login.login_count,
        "sampleInterval": login.sample_interval,
    }


def _change_id(change: Provisioning) -> str:
    return f"scim_{change.resource or 'unknown'}_{change.action or 'unknown'}"


def _change_fields(change: Provisioning) -> Fields:
    group = change.resource == "group"
    severity = 3 if change.outcome != FAILURE else 8 if change.takes_away else 6
    member = change.only_member
    return {
        **_shared(change, "Provisioning", severity),
        "usrName": (member.display or member.value) if group and member else change.user_name,
        "groupName": change.group_name,
        "groupID": change.cf_resource_id if group else "",
        "accountName": "" if group else change.cf_resource_id,
        "realm": change.idp_id,
        "idpResourceId": change.idp_resource_id,
        "resourceType": change.resource_type,
        "method": change.method,
        "status": change.status,
        "reason": change.error_description,
        "changed": " ".join(change.changed),
        "membersAdded": members_text(change.members_added),
        "membersRemoved": members_text(change.members_removed),
        "membersSet": members_text(change.members_set),
        "requestBody": change.request_body,
    }


def _activity_id(activity: AdminActivity) -> str:
    if activity.is_login:
        return f"audit_{activity.activity}_{activity.outcome}"
    return f"audit_{activity.kind or 'unknown'}_{activity.activity or 'unknown'}"


def _activity_fields(activity: AdminActivity) -> Fields:
    category = "Authentication" if activity.is_login else "Audit"
    return {
        **_shared(activity, category, 6 if activity.outcome == FAILURE else 3),
        "src": activity.ip_address,
        "usrName": activity.user,
        "userId": activity.actor_id,
        "actorType": activity.actor_type,
        "actorContext": activity.actor_context,
        "token": activity.token_name or activity.token_id,
        "description": activity.description,
        "resource": activity.resource_id,
        "resourceType": activity.resource_type,
        "product": activity.product,
        "method": activity.method,
        "url": activity.uri,
        "status": activity.status_code,
        "rowId": activity.row_id,
        "rayId": activity.ray_id,
        "zone": activity.zone_name,
    }


def _traffic_id(traffic: Traffic) -> str:
    return f"{'http_request' if traffic.method else 'ztna_session'}_{traffic.outcome}"


def _traffic_fields(traffic: Traffic) -> Fields:
    request = bool(traffic.method)
    severity = 3 if traffic.outcome == FAILURE else 2
    return {
        **_shared(traffic, "Web" if request else "Network", severity),
        "src": traffic.ip_address,
        "srcPort": traffic.port,
        "dst": traffic.dst_ip,
        "dstPort": traffic.dst_port,
        "proto": traffic.transport.upper(),
        "srcBytes": traffic.sent,
        "dstBytes": traffic.received,
        "usrName": traffic.user,
        "userId": traffic.user_id,
        "resource": traffic.host,
        "url": traffic.url,
        "method": traffic.method,
        "status": traffic.status_code,
        "reason": traffic.reason,
        "userAgent": traffic.user_agent,
        "referrer": traffic.referrer,
        "protocol": traffic.protocol,
        "country": traffic.country,
        "durationMs": traffic.duration_ms,
        "rayId": traffic.uid if request else "",
        "sessionId": "" if request else traffic.uid,
        "deviceId": traffic.device_id,
        "deviceName": traffic.device_name,
    }


def _own_id(event: OwnEvent) -> str:
    return f"forwarder_{event.action or 'event'}"


def _own_fields(event: OwnEvent) -> Fields:
    return {
        **_shared(event, "Forwarder", 7 if event.outcome == FAILURE else 1),
        "stream": event.about_stream,
        "sink": event.about_sink,
        "reason": event.reason,
        "from": event.since,
        "to": event.until,
        "rows": event.rows,
        "detail": event.detail,
        "version": event.version,
    }


class LeefFormat(EventLines):
    """``LEEF:2.0|Cloudflare|Access|1|access_login_allowed|x09|`` and pairs, a tab between them.

    LEEF has no escapes: whatever could be taken for a separator is a space in the values.
    """

    summary: ClassVar[str] = "IBM Log Event Extended Format 2.0 for QRadar, one line"
    name = "LEEF"
    kinds: ClassVar[Mappings] = {
        Login: (_login_id, _login_fields),
        Provisioning: (_change_id, _change_fields),
        AdminActivity: (_activity_id, _activity_fields),
        Traffic: (_traffic_id, _traffic_fields),
        OwnEvent: (_own_id, _own_fields),
    }

    def render(self, event: Event) -> bytes:
        """Map ``event`` and write it as one line."""
        id_of, fields_of = self.kinds[type(event)]
        # QRadar maps an event by this id, so it holds no text that somebody can choose freely.
        name = identifier(id_of(event))[:_EVENT_ID_LIMIT]
        pairs = _DELIMITER.join(
            f"{key}={clean(text, _LIMITS.get(key, _USUAL))}"
            for key, text in self.filled(fields_of(event)).items()
        )
        return f"LEEF:2.0|{VENDOR}|{PRODUCT}|{PRODUCT_VERSION}|{name}|x09|{pairs}".encode()
