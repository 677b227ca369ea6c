"""A SCIM change as an OCSF account, user, group or entity event."""

from __future__ import annotations

from forwarder.core.login import FAILURE
from forwarder.core.schema import Member, Provisioning
from forwarder.formats.json_objects import Object, filled
from forwarder.formats.ocsf.classes import (
    ACCOUNT_CHANGE,
    ENTITY_MANAGEMENT,
    GROUP_MANAGEMENT,
    INFORMATIONAL,
    LOW,
    OTHER,
    USER_MANAGEMENT,
    EventClass,
    classify,
    describe,
    observables,
    status_of,
)
from forwarder.formats.ocsf.login import ACCESS

_UPDATE = (OTHER, "Update")
_ACCOUNT = {
    "create": (1, "Create"),
    "update": _UPDATE,
    "delete": (6, "Delete"),
    "enable": (2, "Enable"),
    "disable": (5, "Disable"),
}
_GROUP = {
    "create": (6, "Create"),
    "update": _UPDATE,
    "delete": (5, "Delete"),
    "add_member": (3, "Add User"),
    "remove_member": (4, "Remove User"),
}
_USER_1_9 = {
    "create": (1, "Create"),
    "update": (2, "Update"),
    "delete": (3, "Delete"),
    "enable": (4, "Enable"),
    "disable": (5, "Disable"),
}
_GROUP_1_9 = {**_GROUP, "update": (9, "Update")}

Activities = dict[str, tuple[int, str]]
_CLASSES: dict[str, dict[str, tuple[EventClass, Activities]]] = {
    "1.7.0": {"user": (ACCOUNT_CHANGE, _ACCOUNT), "group": (GROUP_MANAGEMENT, _GROUP)},
    "1.8.0": {"user": (ACCOUNT_CHANGE, _ACCOUNT), "group": (GROUP_MANAGEMENT, _GROUP)},
    "1.9.0": {"user": (USER_MANAGEMENT, _USER_1_9), "group": (GROUP_MANAGEMENT, _GROUP_1_9)},
}
_METHODS = frozenset(
    {"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT", "PATCH"}
)


def map_provisioning(change: Provisioning, version: str) -> Object:
    """Return the event of ``change``; its class depends on the resource and the version."""
    kind, activities = _CLASSES[version].get(change.resource, (ENTITY_MANAGEMENT, {}))
    unknown = (OTHER, change.action) if change.action else (0, "Unknown")
    activity_id, activity = activities.get(change.activity, unknown)
    severity = LOW if change.outcome == FAILURE else INFORMATIONAL
    method = change.method if change.method in _METHODS else ""
    return filled(
        {
            **classify(kind, activity_id, activity, severity),
            **status_of(change.outcome),
            "status_code": change.status,
            "status_detail": change.error_description,
            **describe(
                change,
                version,
                ["cloud"],
                ACCESS,
                event_code=f"scim.{change.resource or 'unknown'}.{change.action or 'unknown'}",
                log_name="scim_updates",
                log_provider="Cloudflare",
                original_time=change.logged_at,
            ),
            "actor": _actor(change.idp_id),
            **_subject(change, version),
            "http_request": filled(
                {"http_method": method, "body_length": change.body_bytes or None}
            ),
            "observables": _observables(change),
            "unmapped": _unmapped(change, version, homeless="" if method else change.method),
        }
    )


def _actor(idp_id: str) -> Object:
    return filled({"app_name": "SCIM", "app_uid": idp_id, "idp": filled({"uid": idp_id})})


def _subject(change: Provisioning, version: str) -> Object:
    """Return whom or what was changed, under the name its class has for it."""
    if change.resource == "user":
        return {"user": _user(change)}
    if change.resource == "group":
        return {"group": _group(change, version), **_group_users(change, version)}
    name = change.user_email or change.group_name or "unknown"
    entity = {"name": name, "uid": change.cf_resource_id, "type": change.resource_type or "Other"}
    return {"entity": filled({**entity, "type_id": OTHER})}


def _user(change: Provisioning) -> Object:
    email = change.user_email
    name = email or ("" if change.cf_resource_id else "unknown")
    return filled(
        {
            "name": name,
            "email_addr": email if change.has_address else "",
            "uid": change.cf_resource_id,
            "uid_alt": change.idp_resource_id,
        }
    )


def _group(change: Provisioning, version: str) -> Object:
    name = change.group_name or ("" if change.cf_resource_id else "unknown")
    uid_alt = "" if version == "1.7.0" else change.idp_resource_id
    return filled({"name": name, "uid": change.cf_resource_id, "uid_alt": uid_alt})


def _group_users(change: Provisioning, version: str) -> Object:
    """Return the members added or removed: one before 1.9, more are in ``unmapped``."""
    users = [filled({"uid": member.value, "name": member.display}) for member in change.members]
    if version == "1.9.0":
        return {"users": users}
    return {"user": users[0]} if len(users) == 1 else {}


def _observables(change: Provisioning) -> list[Object]:
    email = change.user_email if change.resource == "user" and change.has_address else ""
    group = change.group_name if change.resource == "group" else ""
    return observables(
        ("user.email_addr", 5, "Email Address", email),
        ("group.name", 32, "", group),  # its caption differs between versions and tools
    )


def _unmapped(change: Provisioning, version: str, homeless: str) -> Object:
    """Return what the class has no attribute for."""
    several = len(change.members) > 1 and version != "1.9.0"
    members: list[Member] = list(change.members) if several else []
    placed = change.resource == "user" or (change.resource == "group" and version != "1.7.0")
    return {
        **filled(
            {
                "request_body": change.request_body,
                "members": [filled(member._asdict()) for member in members],
                "idp_resource_id": "" if placed else change.idp_resource_id,
                "http_method": homeless,
                **_odd_names(change),
            }
        ),
        **change.extra,
    }


def _odd_names(change: Provisioning) -> Object:
    """Return a user's e-mail address on a group's row, and the other way round."""
    if change.resource == "user":
        return {"resource_group_name": change.group_name}
    if change.resource == "group":
        return {"resource_user_email": change.user_email}
    both = change.user_email and change.group_name
    return {"resource_group_name": change.group_name if both else ""}
