"""An activity of the audit log as an OCSF authentication, entity or API event."""

from __future__ import annotations

from forwarder.core.schema import FAILURE, AdminActivity, is_email
from forwarder.formats.json_events import Object, filled
from forwarder.formats.ocsf_classes import (
    ACCESS,
    ACTOR_APP,
    ACTOR_EVERYWHERE,
    API_ACTIVITY,
    AUTHENTICATION,
    ENTITY_MANAGEMENT,
    ENTITY_TYPE,
    INFORMATIONAL,
    MEDIUM,
    METHODS,
    OTHER,
    REQUEST_EVERYWHERE,
    UID_OBSERVABLES,
    EventClass,
    Version,
    classify,
    describe,
    observables,
    status_of,
)

_DASHBOARD = {"name": "Cloudflare dashboard"}
_LOGINS = {"login": (1, "Logon"), "logout": (2, "Logoff")}
_CALLS = {
    "create": (1, "Create"),
    "view": (2, "Read"),
    "update": (3, "Update"),
    "delete": (4, "Delete"),
}
_ENTITIES = frozenset({"application", "policy", "rule_group", "identity_provider", "service_token"})
"""Access' own objects: managed entities, whose changes are no mere calls of an API."""
_POLICY = (5, "Policy")


def map_activity(activity: AdminActivity, version: Version) -> Object:
    """Return the event of ``activity``; its class depends on what was done to what."""
    kind, (number, caption) = _classified(activity)
    # Old versions have no room for a request in the class of entities.
    requested = kind is not ENTITY_MANAGEMENT or version.has(REQUEST_EVERYWHERE)
    severity = MEDIUM if activity.outcome == FAILURE else INFORMATIONAL
    return filled(
        {
            **classify(kind, number, caption, severity),
            **status_of(activity.outcome),
            "status_code": "" if activity.status_code is None else str(activity.status_code),
            "message": activity.message,
            **describe(
                activity,
                version,
                ["cloud"],
                ACCESS,
                event_code=activity.description,
                log_name=activity.origin.stream,
                log_provider="Cloudflare",
                original_time=activity.occurred_at,
            ),
            **_about(activity, kind, version),
            "api": _api(activity),
            "src_endpoint": _source(activity, kind) if requested else {},
            "http_request": _request(activity) if requested else {},
            "observables": _observables(activity, kind, version, requested=requested),
            "unmapped": _unmapped(activity),
        }
    )


def _classified(activity: AdminActivity) -> tuple[EventClass, tuple[int, str]]:
    if activity.is_login:
        return AUTHENTICATION, _LOGINS[activity.activity]
    known = _CALLS.get(activity.activity, (OTHER, activity.activity or "Other"))
    temporary = activity.object == "temporary_access"
    entity = temporary or (activity.object in _ENTITIES and activity.activity in _CALLS)
    return (ENTITY_MANAGEMENT if entity else API_ACTIVITY), known


def _about(activity: AdminActivity, kind: EventClass, version: Version) -> Object:
    """Return who did it, and to what."""
    user = _user(activity, version)
    if kind is AUTHENTICATION:
        app = filled({"app_name": activity.actor_context}) if version.has(ACTOR_APP) else {}
        return {"user": user, "actor": app, "service": _DASHBOARD, "is_remote": True}
    actor = {"actor": {"user": user}}
    if kind is API_ACTIVITY:
        resource = filled({"uid": activity.resource_id, "type": activity.kind})
        return {**actor, "resources": [resource] if activity.resource_id else []}
    number, caption = (OTHER, activity.object)
    if activity.object == "policy":
        number, caption = _POLICY
    entity = {
        "name": activity.kind,
        "uid": activity.resource_id,
        "type": caption,
        "type_id": number if version.has(ENTITY_TYPE) else None,
    }
    return {**(actor if version.has(ACTOR_EVERYWHERE) else {}), "entity": filled(entity)}


def _user(activity: AdminActivity, version: Version) -> Object:
    return filled(
        {
            "name": activity.user or "unknown",
            "uid": activity.actor_id,
            "email_addr": _address(activity, version),
        }
    )


def _api(activity: AdminActivity) -> Object:
    status = activity.status_code
    return filled(
        {
            "operation": activity.operation or activity.description or "unknown",
            "request": filled({"uid": activity.ray_id}),
            "response": {} if status is None else {"code": status},
            "service": filled({"name": activity.product}),
        }
    )


def _source(activity: AdminActivity, kind: EventClass) -> Object:
    """Return the endpoint; a call of an API must have one, and system rows have no address."""
    if activity.ip_address:
        return {"ip": activity.ip_address}
    return {"name": activity.actor_type or "unknown"} if kind is API_ACTIVITY else {}


def _request(activity: AdminActivity) -> Object:
    method = activity.method.upper()
    return filled(
        {
            "uid": activity.ray_id,
            "http_method": method if method in METHODS else "",
            "url": filled({"path": activity.path}),
            "user_agent": activity.user_agent,
        }
    )


def _observables(
    activity: AdminActivity, kind: EventClass, version: Version, *, requested: bool
) -> list[Object]:
    who = "user" if kind is AUTHENTICATION else "actor.user"
    source = "src_endpoint.ip", 2, "IP Address", activity.ip_address if requested else ""
    if kind is ENTITY_MANAGEMENT and not version.has(ACTOR_EVERYWHERE):
        return observables(source)
    address = _address(activity, version)
    return observables(
        (f"{who}.email_addr", 5, "Email Address", address),
        (f"{who}.name", 4, "User Name", "" if address else activity.user),
        (f"{who}.uid", 31, "", activity.actor_id if version.has(UID_OBSERVABLES) else ""),
        source,
    )


def _address(activity: AdminActivity, version: Version) -> str:
    email = activity.actor_email
    return version.email(email) if is_email(email) else ""


def _unmapped(activity: AdminActivity) -> Object:
    return {
        **filled(
            {
                "audit_log_id": activity.row_id,
                "actor_type": activity.actor_type,
                "actor_context": activity.actor_context,
                "token_id": activity.token_id,
                "token_name": activity.token_name,
                "object": activity.object,
                "resource_id": activity.resource_id,
                "resource_type": activity.resource_type,
                "scope": activity.scope,
                "zone_id": activity.zone_id,
                "zone_name": activity.zone_name,
                "request": activity.request_body,
                "response": activity.response_body,
            }
        ),
        **activity.extra,
    }
