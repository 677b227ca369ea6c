"""The format ``cim``: field names of Splunk's Common Information Model, as flat JSON.

Tags and event types are made at search time; see ``deploy/splunk``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from forwarder.core.schema import (
    FAILURE,
    SUCCESS,
    AdminActivity,
    Event,
    Login,
    OwnEvent,
    Provisioning,
    Traffic,
)
from forwarder.formats.json_events import (
    USER_TYPES,
    JsonEvents,
    Mappings,
    Object,
    filled,
    iso_text,
    members_of,
)

_PRODUCT = "Cloudflare Access"
_FORWARDER = "Cloudflare Access Forwarder"
_STATUS = {SUCCESS: SUCCESS, FAILURE: FAILURE}
"""The model knows these two."""
_CHANGES = {"create": "created", "delete": "deleted", "view": "read", "": "unknown"}
_DASHBOARD = "Cloudflare dashboard"
ACCOUNTS = frozenset({"user", "member", "service_token", "api_token"})
"""What an administrator changes that is an account to CIM."""


def _describe(event: Event, **model: Any) -> Object:
    """Return what all events share, then what is particular to the model."""
    origin = event.origin
    return filled(
        {
            "timestamp": iso_text(event.time_us),
            "event_uid": event.id,
            "received_at": iso_text(origin.seen_us),
            "vendor_product": _PRODUCT,
            "vendor_account": origin.account_id,
            "vendor_account_name": origin.account,
            "stream": origin.stream,
            **model,
            "quality": list(event.quality),
            "unmapped": event.extra,
        }
    )


def map_login(login: Login) -> Object:
    """Return the fields of the model Authentication; ``signature`` tells login from logout."""
    return _describe(
        login,
        app=_PRODUCT,
        # The model knows success, failure, pending and error; searches count on those words.
        action=login.outcome if login.allowed is not None else "error",
        signature=login.action,
        signature_id=f"access.{login.action}" if login.action else "",
        user=login.user_email or login.user_id,
        user_id=login.user_id,
        user_type=USER_TYPES.get(login.user_kind, ""),
        src=login.ip_address,
        src_country=login.country,
        src_category=login.network,
        dest=login.host or _PRODUCT,
        dest_port=login.port,
        authentication_method=login.connection,
        authentication_service=_PRODUCT,
        dest_path=login.path,
        url=login.url,
        app_name=login.app_name,
        app_uid=login.app_uid,
        app_type=login.app_type,
        ray_id=login.ray_id,
        login_count=login.login_count,
        sample_interval=login.sample_interval,
    )


def map_provisioning(change: Provisioning) -> Object:
    """Return the fields of the model Change, data set Account Management."""
    name = change.group_name if change.resource == "group" else change.user
    return _describe(
        change,
        # CIM's word for accounts: authentication, authorization, accounting.
        change_type="AAA",
        action=_CHANGES.get(change.activity, "modified"),
        command=change.action,
        http_method=change.method,
        dest=_PRODUCT,
        dvc=_PRODUCT,
        # Cloudflare's own word stays in status_raw.
        status=_STATUS.get(change.outcome),
        status_raw=change.status,
        object=name or change.cf_resource_id,
        object_category=change.resource or change.resource_type,
        object_id=change.cf_resource_id,
        object_attrs=list(change.changed),
        idp_resource_id=change.idp_resource_id,
        user=_changed_user(change),
        group=change.group_name,
        # The model wants who made the change: the provider, as the log names nobody else.
        src_user=change.idp_id,
        # Where result is empty the data model fills in "unknown".
        result=change.error_description or change.status,
        **members_of(change),
        request_body=change.request_body,
    )


def _changed_user(change: Provisioning) -> str | list[str]:
    """Return the account that was changed; of a group's change, who came and who left."""
    if change.resource != "group":
        return change.user_name or (change.cf_resource_id if change.resource == "user" else "")
    moved = change.members_added + change.members_removed
    names = [member.display or member.value for member in moved]
    return names[0] if len(names) == 1 else names


def map_activity(activity: AdminActivity) -> Object:
    """Return the fields of the model Change; of a login those of Authentication."""
    shared = {
        "event_id": activity.row_id,
        "command": activity.description or activity.operation,
        "http_method": activity.method,
        "http_user_agent": activity.user_agent,
        "url": activity.path,
        "status_code": activity.status_code,
        "src": activity.ip_address,
        "ray_id": activity.ray_id,
        "actor_id": activity.actor_id,
        "actor_type": activity.actor_type,
        "actor_context": activity.actor_context,
        "token_id": activity.token_id,
        "token_name": activity.token_name,
        "product": activity.product,
        "zone": activity.zone_name,
        "zone_id": activity.zone_id,
    }
    if activity.is_login:
        return _describe(
            activity,
            **shared,
            app=_DASHBOARD,
            action=_STATUS.get(activity.outcome, "error"),
            signature=activity.activity,
            user=activity.user,
            dest=_DASHBOARD,
            authentication_service=_DASHBOARD,
        )
    return _describe(
        activity,
        **shared,
        change_type="AAA" if activity.object in ACCOUNTS else "configuration",
        action=_CHANGES.get(activity.activity, "modified"),
        dest=_PRODUCT,
        dvc=_PRODUCT,
        status=_STATUS.get(activity.outcome),
        result=activity.result,
        object=activity.resource_id or activity.kind,
        object_category=activity.kind,
        object_id=activity.resource_id,
        object_path=activity.operation,
        object_attrs=activity.request_body,
        response_body=activity.response_body,
        user=activity.user,
        # Where an account is changed the model wants whoever changed it here.
        src_user=activity.user,
    )


def map_traffic(traffic: Traffic) -> Object:
    """Return the fields of the model Web for a request, of Network Traffic for a session."""
    request, duration = bool(traffic.method), traffic.duration_ms
    # A web server counts what comes in, the client of a session what it gets.
    volume = (traffic.sent, traffic.received)
    bytes_in, bytes_out = volume if request else volume[::-1]
    return _describe(
        traffic,
        app=_PRODUCT if request else traffic.protocol,
        action="allowed",
        status=traffic.status_code if request else _STATUS.get(traffic.outcome),
        reason=traffic.reason,
        user=traffic.user,
        user_id=traffic.user_id,
        src=traffic.ip_address,
        src_port=traffic.port,
        src_country=traffic.country,
        src_device_id=traffic.device_id,
        src_device_name=traffic.device_name,
        dest=traffic.host or traffic.dst_ip,
        dest_ip=traffic.dst_ip,
        dest_port=traffic.dst_port,
        dvc=_PRODUCT,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        # The model Web wants milliseconds, the other one seconds.
        duration=duration if request or duration is None else duration / 1000,
        transport=traffic.transport,
        protocol=traffic.protocol,
        http_method=traffic.method,
        http_referrer=traffic.referrer,
        http_user_agent=traffic.user_agent,
        site=traffic.host if request else "",
        uri_path=traffic.path,
        uri_query=traffic.query,
        url=traffic.url,
        **{"ray_id" if request else "session_id": traffic.uid},
    )


def map_own(event: OwnEvent) -> Object:
    """Return fields in the manner of CIM; no model is about a forwarder."""
    return _describe(
        event,
        # A pushed row without a mapping is no event of ours.
        vendor_product=_FORWARDER if event.action else _PRODUCT,
        app="forwarder" if event.action else "",
        action=event.action,
        status=event.outcome,
        about_stream=event.about_stream,
        about_sink=event.about_sink,
        reason=event.reason,
        **{"from": event.since, "to": event.until},
        rows=event.rows,
        message=event.detail,
        version=event.version,
    )


class CimFormat(JsonEvents):
    """Fields of the models Authentication, Change, Web and Network Traffic."""

    summary: ClassVar[str] = "field names of Splunk's Common Information Model"
    kinds: ClassVar[Mappings] = {
        Login: map_login,
        Provisioning: map_provisioning,
        AdminActivity: map_activity,
        Traffic: map_traffic,
        OwnEvent: map_own,
    }
