"""The forwarder's own events as OCSF Application Lifecycle (6002)."""

from __future__ import annotations

from forwarder.core.login import FAILURE
from forwarder.core.own_events import Own
from forwarder.core.schema import OwnEvent
from forwarder.formats.json_objects import Object, filled
from forwarder.formats.ocsf.classes import (
    APPLICATION_LIFECYCLE,
    HIGH,
    INFORMATIONAL,
    OTHER,
    classify,
    describe,
    status_of,
)

_ACTIVITIES = {
    Own.START.value: (3, "Start"),
    Own.STOP.value: (4, "Stop"),
    Own.CONFIG_RELOADED.value: (8, "Update"),
    "": (0, "Unknown"),
}
_PRODUCT = {"name": "forwarder", "vendor_name": "cloudflare-access-forwarder"}


def map_own(event: OwnEvent, version: str) -> Object:
    """Return the event; what is particular to the forwarder is in ``unmapped``."""
    activity_id, activity = _ACTIVITIES.get(event.action, (OTHER, event.action))
    severity = HIGH if event.outcome == FAILURE else INFORMATIONAL
    product = filled({**_PRODUCT, "version": event.version})
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
