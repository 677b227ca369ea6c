"""Columns of Microsoft's schemas Authentication and User Management (ASIM), those that we fill."""

from __future__ import annotations

_EVENT = {
    "AdditionalFields": "dynamic",
    "Dvc": "string",
    "EventCount": "int",
    "EventEndTime": "datetime",
    "EventMessage": "string",
    "EventOriginalResultDetails": "string",
    "EventOriginalType": "string",
    "EventOriginalUid": "string",
    "EventProduct": "string",
    "EventResult": "string",
    "EventResultDetails": "string",
    "EventSchema": "string",
    "EventSchemaVersion": "string",
    "EventSeverity": "string",
    "EventStartTime": "datetime",
    "EventSubType": "string",
    "EventType": "string",
    "EventVendor": "string",
    "TargetUserId": "string",
    "TargetUserIdType": "string",
    "TargetUsername": "string",
    "TargetUsernameType": "string",
    "TargetUserType": "string",
    "TimeGenerated": "datetime",
    "User": "string",
}
_LOGIN = (
    "IpAddr",
    "LogonMethod",
    "LogonTarget",
    "Src",
    "SrcGeoCountry",
    "SrcIpAddr",
    "TargetAppId",
)
_MORE_LOGIN = ("TargetAppName", "TargetAppType", "TargetHostname", "TargetUrl")
_ACTOR = ("ActorUsername", "ActorUsernameType", "ActorUserType")
_ACTING = ("ActingAppId", "ActingAppName", "ActingAppType")
_GROUP = ("GroupId", "GroupIdType", "GroupName", "GroupNameType")
COLUMNS = {
    "Authentication": _EVENT | dict.fromkeys(_LOGIN + _MORE_LOGIN, "string"),
    "UserManagement": _EVENT | dict.fromkeys(_ACTOR + _ACTING + _GROUP, "string"),
}
"""Column and type. https://learn.microsoft.com/azure/sentinel/normalization-about-schemas"""
MANDATORY = {
    "Authentication": {"EventType", "EventResult", "EventSchema", "Dvc", "EventProduct"},
    "UserManagement": {"EventType", "EventResult", "EventSchema", "Dvc", "ActorUsername"},
}
EVENT_TYPES = {
    "UserManagement": {
        "UserCreated",
        "UserDeleted",
        "UserModified",
        "UserDisabled",
        "UserEnabled",
        "GroupCreated",
        "GroupDeleted",
        "GroupModified",
        "UserAddedToGroup",
        "UserRemovedFromGroup",
    },
}
