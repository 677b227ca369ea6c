"""Rows of the SCIM log (``scim/updates``) as provisioning changes of the common schema.

There is one way, for any row: a tenant has thousands of logins for each change, so a faster way
would buy nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwarder.core.masking import mask_row
from forwarder.core.schema import (
    FAILURE,
    MALFORMED_KEY,
    SUCCESS,
    UNKNOWN,
    Normaliser,
    Origin,
    Provisioning,
    is_email,
)
from forwarder.core.timing import parse_us
from forwarder.sources.cloudflare_access.scim_body import read_request

METHODS = ("http_method", "request_method")
"""Live rows have another key for the method than the documented one."""
_TEXTS = {
    "logged_at": "logged_at",
    "resource_type": "resource_type",
    "user_email": "resource_user_email",
    "group_name": "resource_group_name",
    "cf_resource_id": "cf_resource_id",
    "idp_resource_id": "idp_resource_id",
    "idp_id": "idp_id",
    "status": "status",
    "error_description": "error_description",
    "request_body": "request_body",
}
"""The texts of a change, and the key that a row has for each."""
KNOWN_KEYS = frozenset({*_TEXTS.values(), *METHODS})
_ALWAYS = ("resource_type", "cf_resource_id", "idp_id", "status")
"""Keys seen on every row; their absence is a fault of a row."""
_OUTCOMES = {"SUCCESS": SUCCESS, "FAILURE": FAILURE, "ERROR": FAILURE}


def normalise_scim(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Provisioning:  # noqa: A002
    """Return the provisioning change in ``row``; see ``core.schema.Normalise``."""
    row = mask_row(row)  # again: an older version may have stored it with weaker rules
    texts = {name: _text(row.get(key)) for name, key in _TEXTS.items()}
    method = next((row[key] for key in METHODS if _text(row.get(key))), "").upper()
    body = row.get("request_body")
    asked = read_request(texts["resource_type"], method, body)
    email = texts["user_email"]
    return Provisioning(
        origin,
        id=id,
        time_us=time_us,
        row=row,
        quality=_quality(row, method, readable=asked.whole or body in (None, "")),
        extra={
            key: value for key, value in row.items() if key not in KNOWN_KEYS or not _fits(value)
        },
        resource=asked.resource,
        activity=asked.activity,
        outcome=_OUTCOMES.get(texts["status"].upper(), UNKNOWN),
        changed=asked.changed,
        members_added=asked.members.added,
        members_removed=asked.members.removed,
        members_set=asked.members.set,
        user_name=email or asked.user_name or asked.email,
        email=email if is_email(email) else asked.email,
        method=method,
        **texts,
    )


def _quality(row: Mapping[str, Any], method: str, *, readable: bool) -> tuple[str, ...]:
    """Return the keys whose value is missing or not what the key promises."""
    if MALFORMED_KEY in row:
        return ("malformed",)
    found = ["time"] if parse_us(_text(row.get("logged_at"))) is None else []
    found += [key for key in _ALWAYS if not _text(row.get(key))]
    found += [key for key in _TEXTS.values() if not _fits(row.get(key)) and key not in found]
    if not method:
        found.append("http_method")
    if not readable and "request_body" not in found:
        found.append("request_body")
    return tuple(found)


def _fits(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


SCIM_UPDATES = Normaliser(normalise_scim, KNOWN_KEYS)
"""How the rows of stream ``scim_updates`` become events."""
