"""The format ``asim``: columns of Microsoft's Advanced Security Information Model.

Logins fill the table of the schema Authentication, SCIM changes that of User Management, the
account's audit log and the forwarder's own events that of Audit Event, requests and sessions those
of Web Session and Network Session. What has no column is in ``AdditionalFields``. Azure drops a
column that the data collection rule does not declare and says nothing, so
``deploy/sentinel/dcr.json`` declares each column that is written here.
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
from forwarder.formats.json_events import JsonEvents, Mappings, Object, filled, iso_text, members_of

_RESULTS = {SUCCESS: "Success", FAILURE: "Failure"}
_LOGONS = {"login": "Logon", "logout": "Logoff"}
_OWN = {"start": "Start", "stop": "Stop", "config_reloaded": "Set"}
_ACTIVITIES = {"create": "Create", "view": "Read", "update": "Set", "delete": "Delete"}
_CHANGES = {
    "user": {
        "create": "UserCreated",
        "update": "UserModified",
        "enable": "UserEnabled",
        "disable": "UserDisabled",
        "delete": "UserDeleted",
    },
    "group": {
        "create": "GroupCreated",
        "update": "GroupModified",
        "add_member": "UserAddedToGroup",
        "remove_member": "UserRemovedFromGroup",
        "delete": "GroupDeleted",
    },
}


def _describe(event: Event, fields: Object, **columns: Any) -> Object:
    """Return what all schemas share, the ``columns`` of one, and what has no column."""
    origin, time = event.origin, iso_text(event.time_us)
    fields |= {"account": origin.account, "stream": origin.stream, "quality": list(event.quality)}
    return filled(
        {
            # Azure replaces a TimeGenerated of more than two days ago by the time of arrival.
            "TimeGenerated": time,
            "EventStartTime": time,
            "EventEndTime": time,
            "EventCount": 1,
            "EventVendor": "Cloudflare",
            "EventProduct": "Access",
            "EventOriginalUid": event.id,
            "EventMessage": event.message,
            "DvcId": origin.account_id,
            "DvcIdType": "Other",
            **columns,
            "AdditionalFields": filled(fields | {"unmapped": event.extra}),
        }
    )


def map_login(login: Login) -> Object:
    """Return the columns of ``ASimAuthenticationEventLogs``."""
    failed, service = login.outcome == FAILURE, login.user_kind == "service"
    fields = {
        "connection": login.connection,
        "ray_id": login.ray_id,
        "network": login.network,
        "app_type": login.app_type,
        "path": login.path,
        "sample_interval": login.sample_interval,
    }
    return _describe(
        login,
        fields,
        EventCount=login.login_count or 1,
        EventSchemaVersion="0.1.3",
        EventType=_LOGONS.get(login.action, "Other"),
        EventOriginalType=login.action,
        EventResult=_RESULTS.get(login.outcome, "NA"),
        # A wrong password never reaches Access: what it refuses is refused by a policy.
        EventResultDetails="Logon violates policy" if failed else "",
        EventSeverity="Low" if failed else "Informational",
        TargetUsername=login.user_email,
        TargetUsernameType=_name_type(bool(login.user_email), upn=bool(login.email)),
        TargetUserId=login.user_id,
        TargetUserIdType="Other" if login.user_id else "",
        TargetUserType="Service" if service else "Regular",
        SrcIpAddr=login.ip_address,
        SrcGeoCountry=login.country,
        TargetAppId=login.app_uid,
        TargetAppName=login.app_name or login.host,
        TargetAppType="Service",
        TargetHostname=login.host,
        TargetPortNumber=login.port,
        TargetUrl=login.url,
        LogonMethod="Other" if service else login.connection,
    )


def map_provisioning(change: Provisioning) -> Object:
    """Return the columns of ``ASimUserManagementActivityLogs``; the actor is the provider."""
    failed, of_group = change.outcome == FAILURE, change.resource == "group"
    kind = _CHANGES.get(change.resource, {}).get(change.activity, "Other")
    member = change.only_member if of_group else None
    name = (member.display or member.value) if member else "" if of_group else change.user_name
    fields = {
        "changed": list(change.changed),
        "idp_resource_id": change.idp_resource_id,
        "http_method": change.method,
        "resource_type": change.resource_type,
        **members_of(change),
        "request_body": change.request_body,
    }
    return _describe(
        change,
        fields,
        EventSchema="UserManagement",
        EventSchemaVersion="0.1.1",
        EventType=kind,
        EventOriginalType=change.action,
        EventResult=_RESULTS.get(change.outcome, "NA"),
        EventResultDetails="Other" if failed else "",
        EventOriginalResultDetails=change.error_description or change.status,
        EventSeverity="Medium" if failed else "Informational",
        ActorUsername=change.idp_id,
        ActorUsernameType="Simple" if change.idp_id else "",
        ActorUserType="Application",
        ActingAppId=change.idp_id,
        ActingAppName="SCIM",
        ActingAppType="Service",
        TargetUsername=name,
        TargetUsernameType=_name_type(
            bool(name), upn=bool(change.member_email if of_group else change.email)
        ),
        TargetUserId="" if of_group else change.cf_resource_id,
        TargetUserIdType="Other" if change.cf_resource_id and not of_group else "",
        GroupName=change.group_name if of_group else "",
        GroupNameType="Simple" if of_group and change.group_name else "",
        GroupId=change.cf_resource_id if of_group else "",
        GroupIdType="UID" if of_group and change.cf_resource_id else "",
    )


def map_activity(activity: AdminActivity) -> Object:
    """Return the columns of ``ASimAuditEventLogs`` for a change of the account."""
    fields = {
        "activity": activity.activity,
        "object": activity.kind,
        "operation": activity.operation,
        "actor_type": activity.actor_type,
        "actor_context": activity.actor_context,
        "token": activity.token_name or activity.token_id,
        "product": activity.product,
        "resource_type": activity.resource_type,
        "http_method": activity.method,
        "uri": activity.uri,
        "status_code": activity.status_code,
        "ray_id": activity.ray_id,
        "row_id": activity.row_id,
        "zone": activity.zone_name,
        "request_body": activity.request_body,
        "response_body": activity.response_body,
    }
    return _describe(
        activity,
        fields,
        EventSchemaVersion="0.1",
        EventType=_ACTIVITIES.get(activity.activity, "Other"),
        Operation=activity.description or activity.operation or activity.activity,
        EventResult=_RESULTS.get(activity.outcome, "NA"),
        EventSeverity="Medium" if activity.outcome == FAILURE else "Informational",
        Object=activity.resource_id or activity.kind or "account",
        ObjectType="Policy Rule" if activity.object == "policy" else "Configuration Atom",
        ActorUsername=activity.user,
        ActorUsernameType=_name_type(bool(activity.user), upn=bool(activity.actor_email)),
        ActorUserId=activity.actor_id,
        ActorUserIdType="Other" if activity.actor_id else "",
        SrcIpAddr=activity.ip_address,
        HttpUserAgent=activity.user_agent,
    )


def map_traffic(traffic: Traffic) -> Object:
    """Return the columns of ``ASimWebSessionLogs``, or ``ASimNetworkSessionLogs`` for a session."""
    request, status = bool(traffic.method), traffic.status_code
    return _describe(
        traffic,
        {},
        EventSchemaVersion="0.2.7",
        EventType="HTTPsession" if request else "NetworkSession",
        EventSubType="" if request else "End",
        EventResult=_RESULTS.get(traffic.outcome, "NA"),
        EventResultDetails="" if status is None else str(status),
        EventOriginalResultDetails=traffic.reason,
        EventSeverity="Low" if traffic.outcome == FAILURE else "Informational",
        DvcAction="Allow",
        SrcIpAddr=traffic.ip_address,
        SrcPortNumber=traffic.port,
        SrcGeoCountry=traffic.country,
        SrcUsername=traffic.user_name,
        SrcUsernameType=_name_type(bool(traffic.user_name), upn=bool(traffic.email)),
        SrcUserId=traffic.user_id,
        SrcUserIdType="Other" if traffic.user_id else "",
        SrcDvcId=traffic.device_id,
        SrcDvcIdType="Other" if traffic.device_id else "",
        SrcHostname=traffic.device_name,
        SrcBytes=traffic.sent,
        DstBytes=traffic.received,
        DstIpAddr=traffic.dst_ip,
        DstPortNumber=traffic.dst_port,
        DstHostname=traffic.host,
        NetworkSessionId=traffic.uid,
        NetworkProtocol=traffic.transport.upper(),
        NetworkApplicationProtocol=traffic.protocol,
        NetworkDuration=traffic.duration_ms,
        Url=traffic.url,
        HttpRequestMethod=traffic.method,
        HttpReferrer=traffic.referrer,
        HttpUserAgent=traffic.user_agent,
    )


def map_own(event: OwnEvent) -> Object:
    """Return the columns of ``ASimAuditEventLogs`` for an event about the forwarder itself."""
    # A pushed row without a mapping says nothing, and other tables have no such columns.
    object_ = event.about_sink or event.about_stream or ("forwarder" if event.action else "")
    fields = {
        "about_stream": event.about_stream,
        "about_sink": event.about_sink,
        "from": event.since,
        "to": event.until,
        "rows": event.rows,
        "detail": event.detail,
    }
    return _describe(
        event,
        fields,
        EventProduct="Access Forwarder" if event.action else "Access",
        EventProductVersion=event.version,
        EventSchemaVersion="0.1",
        EventType=_OWN.get(event.action, "Other"),
        Operation=event.action,
        EventResult=_RESULTS.get(event.outcome, "NA"),
        EventOriginalResultDetails=event.reason,
        EventSeverity="Medium" if event.outcome == FAILURE else "Informational",
        Object=object_,
        ObjectType="Service" if object_ else "",
    )


def _name_type(named: bool, *, upn: bool) -> str:  # noqa: FBT001 - two facts about one name
    return "" if not named else "UPN" if upn else "Simple"


class AsimFormat(JsonEvents):
    """Columns of the schemas that the head of this module names."""

    summary: ClassVar[str] = "columns of Microsoft Sentinel's ASIM tables"
    kinds: ClassVar[Mappings] = {
        Login: map_login,
        Provisioning: map_provisioning,
        AdminActivity: map_activity,
        Traffic: map_traffic,
        OwnEvent: map_own,
    }
    # Azure cuts a text at 64 KB, and a cut body would take the rest of AdditionalFields with it.
    request_bodies = False

    @staticmethod
    def nearest_path(path: str) -> str:
        """Return where an added field is kept: other columns have to be declared in Azure first."""
        return path if path.startswith("AdditionalFields.") else f"AdditionalFields.{path}"
