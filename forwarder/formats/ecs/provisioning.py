"""A SCIM change as an ECS ``iam`` event."""

from __future__ import annotations

from forwarder.core.provisioning import Provisioning
from forwarder.formats.ecs.mappings import describe
from forwarder.formats.json_objects import Object, filled

_TYPES = {"create": "creation", "delete": "deletion"}


def map_provisioning(change: Provisioning, namespace: str) -> Object:
    """Return the ECS event of ``change``: whom it is about is in ``user`` and ``user.target``."""
    resource = change.resource
    user, group = _user(change), _group(change)
    kind = _TYPES.get(change.activity, "change") if change.activity else "info"
    error = change.error_description
    return filled(
        {
            **describe(
                change,
                "scim",
                namespace,
                category=["iam"],
                type=[*filter(None, [resource]), kind],
                action=f"scim-{resource or 'unknown'}-{change.action or 'unknown'}",
                reason=error,
            ),
            "user": filled({**user, "target": user}),
            "group": group,
            "http": filled({"request": _request(change)}),
            "error": filled({"message": error}),
            "related": filled({"user": _related(change)}),
            "cloudflare": filled({"scim": _scim(change), "unmapped": change.extra}),
        }
    )


def _user(change: Provisioning) -> Object:
    if change.resource == "group":
        return {}
    email = change.user_email
    identity = change.cf_resource_id if change.resource == "user" else ""
    return filled({"id": identity, "name": email, "email": email if change.has_address else ""})


def _group(change: Provisioning) -> Object:
    identity = change.cf_resource_id if change.resource == "group" else ""
    return filled({"id": identity, "name": change.group_name})


def _request(change: Provisioning) -> Object:
    body = {"content": change.request_body, "bytes": change.body_bytes}
    body = body if change.request_body else {}
    return filled({"method": change.method, "body": body})


def _related(change: Provisioning) -> list[str]:
    """Return each name and id of a user once, in order."""
    found = [change.user_email]
    if change.resource == "user":
        found.append(change.cf_resource_id)
    found += [text for member in change.members for text in member]
    return list(dict.fromkeys(filter(None, found)))


def _scim(change: Provisioning) -> Object:
    known = change.resource in {"user", "group"}
    return filled(
        {
            "idp_id": change.idp_id,
            "idp_resource_id": change.idp_resource_id,
            "resource_type": change.resource_type,
            "resource_id": "" if known else change.cf_resource_id,
            "resource_user_email": change.user_email if change.resource == "group" else "",
            "status": change.status,
            "members": [filled(member._asdict()) for member in change.members],
        }
    )
