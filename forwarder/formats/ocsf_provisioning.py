"""A SCIM change as an OCSF account, user, group or entity event."""

from __future__ import annotations

from forwarder.core.schema import FAILURE, Member, Provisioning
from forwarder.formats.json_events import Object, filled, members_of
from forwarder.formats.ocsf_classes import (
    ACCESS,
    ACCOUNT_CHANGE,
    ACTOR_APP,
    ACTOR_EVERYWHERE,
    BODY_LENGTH,
    ENTITY_MANAGEMENT,
    ENTITY_TYPE,
    GROUP_ALONE,
    GROUP_MANAGEMENT,
    GROUP_UID_ALT,
    HIGH,
    INFORMATIONAL,
    MEDIUM,
    METHODS,
    OTHER,
    PATCH_METHOD,
    REQUEST_EVERYWHERE,
    SUBGROUPS,
    UID_OBSERVABLES,
    USER_MANAGEMENT,
    USER_MANAGEMENT_CLASS,
    EventClass,
    Severity,
    Version,
    classify,
    describe,
    observables,
    status_of,
)

Activity = tuple[int, str]

# Account Change has no Update, and Group Management has one only since 1.9.
_UPDATE = (OTHER, "Update")
_ACCOUNT: dict[str, Activity] = {
    "create": (1, "Create"),
    "update": _UPDATE,
    "delete": (6, "Delete"),
    "enable": (2, "Enable"),
    "disable": (5, "Disable"),
    "password": (3, "Password Change"),
}
_USER: dict[str, Activity] = {
    "create": (1, "Create"),
    "update": (2, "Update"),
    "delete": (3, "Delete"),
    "enable": (4, "Enable"),
    "disable": (5, "Disable"),
    "password": (8, "Password Change"),
}
_GROUP: dict[str, Activity] = {
    "create": (6, "Create"),
    "update": _UPDATE,
    "delete": (5, "Delete"),
    "add_member": (3, "Add User"),
    "remove_member": (4, "Remove User"),
    "add_group": (7, "Add Subgroup"),
    "remove_group": (8, "Remove Subgroup"),
}
_ENTITY: dict[str, Activity] = {
    "create": (1, "Create"),
    "update": (3, "Update"),
    "delete": (4, "Delete"),
    # An entity has no members: who comes or goes updates the group.
    "add_member": (3, "Update"),
    "remove_member": (3, "Update"),
}
_SHOWN = 100
"""Members that are observables; a group of thousands may be set at once."""


def map_provisioning(change: Provisioning, version: Version) -> Object:
    """Return the event of ``change``; its class depends on the resource and the version."""
    kind, activity = _classified(change, version)
    has_actor = _has_actor(kind, version)
    method = change.method if _is_method(change.method, version) else ""
    request = filled(
        {
            "http_method": method,
            "body_length": change.body_bytes or None if version.has(BODY_LENGTH) else None,
        }
    )
    return filled(
        {
            **classify(kind, *activity, _severity(change)),
            **status_of(change.outcome),
            "status_code": change.status,
            "status_detail": change.error_description,
            "message": change.message,
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
            "actor": _actor(change.idp_id) if has_actor else {},
            **_subject(change, version),
            "http_request": request if _may_have_request(kind, version) else {},
            "observables": _observables(change, version),
            "unmapped": _unmapped(
                change,
                version,
                http_method="" if method else change.method,
                idp_id="" if has_actor else change.idp_id,
            ),
        }
    )


def _classified(change: Provisioning, version: Version) -> tuple[EventClass, Activity]:
    unknown = (OTHER, change.action) if change.action else (0, "Unknown")
    if change.resource == "user":
        new = version.has(USER_MANAGEMENT_CLASS)
        only_password = change.activity == "update" and change.changed == ("password",)
        known = _USER if new else _ACCOUNT
        activity = "password" if only_password else change.activity
        return (USER_MANAGEMENT if new else ACCOUNT_CHANGE), known.get(activity, unknown)
    if change.resource == "group" and _is_entity(change, version):
        return ENTITY_MANAGEMENT, _ENTITY.get(change.activity, unknown)
    if change.resource == "group":
        activity = change.activity
        if activity == "update" and version.has(USER_MANAGEMENT_CLASS):
            return GROUP_MANAGEMENT, (9, "Update")
        if _subgroups(change) and version.has(SUBGROUPS):
            activity = activity.replace("member", "group")
        return GROUP_MANAGEMENT, _GROUP.get(activity, unknown)
    return ENTITY_MANAGEMENT, unknown


def _is_entity(change: Provisioning, version: Version) -> bool:
    # Before 1.5 Group Management had to have a user: it was about who comes and goes only.
    return not version.has(GROUP_ALONE) and change.only_member is None


def _severity(change: Provisioning) -> Severity:
    if change.outcome != FAILURE:
        return INFORMATIONAL
    # A removal that failed leaves somebody with access.
    return HIGH if change.takes_away else MEDIUM


def _is_method(method: str, version: Version) -> bool:
    return method in METHODS or (method == "PATCH" and version.has(PATCH_METHOD))


def _may_have_request(kind: EventClass, version: Version) -> bool:
    return kind is ACCOUNT_CHANGE or version.has(REQUEST_EVERYWHERE)


def _has_actor(kind: EventClass, version: Version) -> bool:
    # Before 1.3 an actor had to be a process, a user or a session; a provider is none of those.
    return version.has(ACTOR_APP if kind is ACCOUNT_CHANGE else ACTOR_EVERYWHERE)


def _actor(idp_id: str) -> Object:
    return filled({"app_name": "SCIM", "app_uid": idp_id, "idp": filled({"uid": idp_id})})


def _subject(change: Provisioning, version: Version) -> Object:
    """Return whom or what was changed, under the name its class has for it."""
    if change.resource == "user":
        return {"user": _user(change, version)}
    if change.resource == "group" and not _is_entity(change, version):
        return {"group": _group(change, version), **_group_members(change, version)}
    name = change.user_name or change.group_name or "unknown"
    number, kind = OTHER, change.resource_type or "Other"
    if change.resource == "group":
        name, number, kind = change.group_name or "unknown", 3, "Group"
    entity = {"name": name, "uid": change.cf_resource_id, "type": kind}
    return {"entity": filled({**entity, "type_id": number if version.has(ENTITY_TYPE) else None})}


def _user(change: Provisioning, version: Version) -> Object:
    name = change.user_name or ("" if change.cf_resource_id else "unknown")
    return filled(
        {
            "name": name,
            "email_addr": version.email(change.email),
            "uid": change.cf_resource_id,
            "uid_alt": change.idp_resource_id,
        }
    )


def _group(change: Provisioning, version: Version) -> Object:
    name = change.group_name or ("" if change.cf_resource_id else "unknown")
    uid_alt = change.idp_resource_id if version.has(GROUP_UID_ALT) else ""
    return filled({"name": name, "uid": change.cf_resource_id, "uid_alt": uid_alt})


def _moved(change: Provisioning) -> tuple[Member, ...]:
    """Return the members of a change that only adds, or only removes, some."""
    if change.activity not in {"add_member", "remove_member"}:
        return ()
    return change.members_added or change.members_removed


def _subgroups(change: Provisioning) -> bool:
    moved = _moved(change)
    return bool(moved) and all(member.type == "Group" for member in moved)


def _group_members(change: Provisioning, version: Version) -> Object:
    """Return whom the activity is about: one before 1.9. All are in ``unmapped``, too."""
    named = [filled({"uid": member.value, "name": member.display}) for member in _moved(change)]
    if _subgroups(change) and version.has(SUBGROUPS):
        return {"subgroup": named[0]} if len(named) == 1 else {}
    if version.has(USER_MANAGEMENT_CLASS):
        return {"users": named}
    return {"user": named[0]} if len(named) == 1 else {}


def _observables(change: Provisioning, version: Version) -> list[Object]:
    uid = 31 if version.has(UID_OBSERVABLES) else 0
    email = version.email(change.email)
    user, group = change.resource == "user", change.resource == "group"
    found = [
        ("user.email_addr", 5, "Email Address", email if user else ""),
        ("user.name", 4, "User Name", change.user_name if user and not email else ""),
        ("user.uid", uid, "", change.cf_resource_id if user and uid else ""),
        # 31 to 33 have different captions in different versions and tools, so they have none here.
        ("group.name", 32, "", change.group_name if group and uid else ""),
        ("group.uid", 33, "", change.cf_resource_id if group and uid else ""),
    ]
    for key in ("members_added", "members_removed", "members_set"):
        for member in getattr(change, key)[:_SHOWN]:
            found.append((f"unmapped.{key}.display", 4, "User Name", member.display))
            found.append((f"unmapped.{key}.value", uid, "", member.value if uid else ""))
    return observables(*found)


def _unmapped(change: Provisioning, version: Version, **homeless: str) -> Object:
    """Return what the class has no attribute for."""
    placed = change.resource == "user" or (
        change.resource == "group" and version.has(GROUP_UID_ALT)
    )
    return {
        **filled(
            {
                "changed": list(change.changed),
                **members_of(change),
                "request_body": change.request_body,
                "idp_resource_id": "" if placed else change.idp_resource_id,
                **homeless,
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
