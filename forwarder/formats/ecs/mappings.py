"""A login as an ECS ``authentication`` event, the forwarder's own events as ``process``."""

from __future__ import annotations

from typing import Any

from forwarder.core.login import Login
from forwarder.core.own_events import Own
from forwarder.core.schema import Event, OwnEvent
from forwarder.formats.iso_time import iso_text
from forwarder.formats.json_objects import Object, filled

ECS_VERSION = "9.4.0"
_LOGIN_TYPES = {"login": "start", "logout": "end"}
_OWN_TYPES = {Own.START.value: "start", Own.STOP.value: "end"}
_MODULE = "cloudflare_access"


def describe(event: Event, dataset: str, namespace: str, **more: Any) -> Object:
    """Return what all events share; ``more`` goes into ``event``."""
    dataset = f"{_MODULE}.{dataset}"
    origin = event.origin
    return {
        "@timestamp": iso_text(event.time_us),
        "ecs": {"version": ECS_VERSION},
        "data_stream": {"type": "logs", "dataset": dataset, "namespace": namespace},
        "event": filled(
            {
                "kind": "event",
                "module": _MODULE,
                "dataset": dataset,
                "id": event.id,
                "created": iso_text(origin.seen_us),
                "outcome": event.outcome,
                **more,
            }
        ),
        "observer": {"vendor": "Cloudflare", "product": "Access"},
        "cloud": {
            "provider": "cloudflare",
            "account": filled({"id": origin.account_id, "name": origin.account}),
        },
        "tags": [f"quality_{name}" for name in event.quality],
    }


def map_login(login: Login, namespace: str) -> Object:
    """Return the ECS event of ``login``."""
    email = login.user_email
    return filled(
        {
            **describe(
                login,
                "audit",
                namespace,
                category=["authentication"],
                type=[_LOGIN_TYPES.get(login.action, "info")],
                action=login.action,
            ),
            "user": filled(
                {
                    "id": login.user_id,
                    "name": email,
                    "email": email if login.user_kind == "email" else "",
                }
            ),
            "source": filled(
                {"ip": login.ip_address, "geo": filled({"country_iso_code": login.country})}
            ),
            "url": filled({"domain": login.host, "path": login.path}),
            "service": filled({"id": login.app_uid, "name": login.app_name}),
            "http": {"request": {"id": login.ray_id}} if login.ray_id else {},
            "related": filled(
                {
                    "ip": list(filter(None, [login.ip_address])),
                    "user": list(filter(None, [email, login.user_id])),
                    "hosts": list(filter(None, [login.host])),
                }
            ),
            "cloudflare": filled({"access": _access(login), "unmapped": login.extra}),
        }
    )


def _access(login: Login) -> Object:
    return filled(
        {
            "allowed": login.allowed,
            "app": filled({"type": login.app_type}),
            "connection": login.connection,
        }
    )


def map_own(event: OwnEvent, namespace: str) -> Object:
    """Return the ECS event of something the forwarder says about itself."""
    particular = {
        "stream": event.about_stream,
        "sink": event.about_sink,
        "from": event.since,
        "to": event.until,
        "rows": event.rows,
    }
    return filled(
        {
            **describe(
                event,
                "forwarder",
                namespace,
                category=["process"],
                type=[_OWN_TYPES.get(event.action, "info")],
                action=event.action,
                reason=event.reason,
            ),
            "message": event.detail,
            "agent": filled({"name": "forwarder", "type": "forwarder", "version": event.version}),
            "cloudflare": filled({"forwarder": filled(particular), "unmapped": event.extra}),
        }
    )
