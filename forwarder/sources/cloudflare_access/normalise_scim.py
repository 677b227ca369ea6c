"""Rows of the SCIM log (``scim/updates``) as events of the common schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

from forwarder.core.login import FAILURE, SUCCESS, UNKNOWN
from forwarder.core.masking import mask_row
from forwarder.core.origin import Origin
from forwarder.core.schema import MALFORMED_KEY, Glimpse, Normaliser, Provisioning
from forwarder.core.timestamps import parse_us
from forwarder.sources.cloudflare_access.normalise_scim_body import read_body, read_request

_TEXTS = (
    "logged_at",
    "resource_type",
    "resource_user_email",
    "resource_group_name",
    "cf_resource_id",
    "idp_resource_id",
    "idp_id",
    "status",
    "error_description",
    "request_body",
)
_METHODS = ("http_method", "request_method")
_KNOWN = frozenset({*_TEXTS, *_METHODS})
_ALWAYS = ("resource_type", "cf_resource_id", "idp_id", "status")
"""Keys seen on every row; their absence is a fault of a row."""
_RESOURCES = {"USER": "user", "GROUP": "group"}
_OUTCOMES = {"SUCCESS": SUCCESS, "FAILURE": FAILURE, "ERROR": FAILURE}


def normalise_scim(row: Mapping[str, Any], origin: Origin, id: str, time_us: int) -> Provisioning:  # noqa: A002
    """Return the provisioning change in ``row``; see ``forwarder.core.schema.Normalise``."""
    row = mask_row(row)
    texts = {key: _text(row.get(key)) for key in _TEXTS}
    method = _method(row)
    resource = _RESOURCES.get(texts["resource_type"].upper(), "")
    body, whole = read_body(texts["request_body"])
    asked = read_request(resource, method, body)
    return Provisioning(
        origin,
        id=id,
        time_us=time_us,
        row=row,
        resource=resource,
        activity=asked.activity,
        outcome=_outcome(row),
        members=asked.members,
        quality=_quality(row, texts, method, readable=whole or not texts["request_body"]),
        extra=_extra(row),
        logged_at=texts["logged_at"],
        method=method,
        resource_type=texts["resource_type"],
        user_email=texts["resource_user_email"],
        group_name=texts["resource_group_name"],
        cf_resource_id=texts["cf_resource_id"],
        idp_resource_id=texts["idp_resource_id"],
        idp_id=texts["idp_id"],
        status=texts["status"],
        error_description=texts["error_description"],
        request_body=texts["request_body"],
    )


def glance_scim(rows: Sequence[Mapping[str, Any]], origin: Origin) -> Glimpse:
    """See ``forwarder.core.schema.Glance``."""
    named = ("resource_user_email", "resource_group_name", "cf_resource_id")
    users = [next((row[key] for key in named if _text(row.get(key))), "") for row in rows]
    return Glimpse(repeat(origin.account), [_outcome(row) for row in rows], users)


def _quality(
    row: Mapping[str, Any], texts: Mapping[str, str], method: str, *, readable: bool
) -> tuple[str, ...]:
    """Name what is missing or not what its key promises."""
    if MALFORMED_KEY in row:
        return ("malformed",)
    found = ["time"] if parse_us(texts["logged_at"]) is None else []
    found += [key for key in _ALWAYS if not texts[key]]
    found += [key for key in _TEXTS if not _fits(row.get(key)) and key not in (*_ALWAYS, *found)]
    if not method:
        found.append("http_method")
    if not readable and "request_body" not in found:
        found.append("request_body")
    return tuple(found)


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the schema has no place for: unknown keys, and values that are no texts."""
    return {key: value for key, value in row.items() if key not in _KNOWN or not _fits(value)}


def _method(row: Mapping[str, Any]) -> str:
    """Return the method in capitals: live rows have another key for it than the documented one."""
    return next((row[key] for key in _METHODS if _text(row.get(key))), "").upper()


def _outcome(row: Mapping[str, Any]) -> str:
    return _OUTCOMES.get(_text(row.get("status")).upper(), UNKNOWN)


def _fits(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


SCIM_UPDATES = Normaliser(normalise_scim, glance_scim)
"""How the rows of stream ``scim_updates`` become events."""
