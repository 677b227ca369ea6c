"""The table CommonSecurityLog: which column the agent fills from which key of CEF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = {
    "act": "DeviceAction",
    "c6a2": "DeviceCustomIPv6Address2",
    "c6a2Label": "DeviceCustomIPv6Address2Label",
    "cat": "DeviceEventCategory",
    "cnt": "EventCount",
    "destinationServiceName": "DestinationServiceName",
    "deviceExternalId": "DeviceExternalID",
    "dhost": "DestinationHostName",
    "dpt": "DestinationPort",
    "duid": "DestinationUserID",
    "duser": "DestinationUserName",
    "externalId": "ExtID",
    "msg": "Message",
    "outcome": "EventOutcome",
    "reason": "Reason",
    "request": "RequestURL",
    "requestMethod": "RequestMethod",
    "rt": "ReceiptTime",
    "src": "SourceIP",
    "suid": "SourceUserID",
    "suser": "SourceUserName",
    **{f"cs{n}": f"DeviceCustomString{n}" for n in range(1, 7)},
    **{f"cs{n}Label": f"DeviceCustomString{n}Label" for n in range(1, 7)},
    **{f"flexString{n}": f"FlexString{n}" for n in (1, 2)},
    **{f"flexString{n}Label": f"FlexString{n}Label" for n in (1, 2)},
}
"""Of the keys that format cef writes. https://learn.microsoft.com/azure/sentinel/cef-name-mapping"""


def columns_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row for an event of CEF, as ``cefp`` has read it."""
    device = event["device"]
    return {
        "DeviceVendor": device["vendor"],
        "DeviceProduct": device["product"],
        "DeviceEventClassID": device["event_class_id"],
        "Activity": event["name"],
        "LogSeverity": event["severity"],
        **{COLUMNS[key]: value for key, value in event["extension"].items()},
    }
