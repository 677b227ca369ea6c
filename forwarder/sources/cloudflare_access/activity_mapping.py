"""Rows of the audit log (version 2) and of temporary access as activities of the common schema.

No document says which words ``resource.product`` and ``resource.type`` have for Access, so what a
row is about is read out of the request's address first. Bodies may hold secrets of anything that
Cloudflare sells; what is masked here is masked before a row is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from forwarder.core.identity import dumps
from forwarder.core.masking import MASK, mask_columns, mask_row, mask_value
from forwarder.core.schema import (
    BODIES,
    FAILURE,
    MALFORMED_KEY,
    SUCCESS,
    UNKNOWN,
    AdminActivity,
    Normaliser,
    Origin,
)
from forwarder.core.timing import parse_us
from forwarder.sources.cloudflare_access.login_mapping import ip_version

Row = Mapping[str, Any]

_TEXTS: Mapping[str, tuple[str, str]] = {
    "occurred_at": ("action", "time"),
    "description": ("action", "description"),
    "result": ("action", "result"),
    "actor_id": ("actor", "id"),
    "actor_email": ("actor", "email"),
    "actor_type": ("actor", "type"),
    "actor_context": ("actor", "context"),
    "ip_address": ("actor", "ip_address"),
    "token_id": ("actor", "token_id"),
    "token_name": ("actor", "token_name"),
    "method": ("raw", "method"),
    "uri": ("raw", "uri"),
    "user_agent": ("raw", "user_agent"),
    "ray_id": ("raw", "cf_ray_id"),
    "resource_id": ("resource", "id"),
    "product": ("resource", "product"),
    "resource_type": ("resource", "type"),
    "scope": ("resource", "scope"),
    "zone_id": ("zone", "id"),
    "zone_name": ("zone", "name"),
}
"""The texts of an activity, and where a row has each."""
_OTHERS = {("action", "type"), ("raw", "status_code"), ("account", "id"), ("account", "name")}
_PLACES = frozenset({*_TEXTS.values(), *_OTHERS, *(("resource", name) for name in BODIES)})
_SECTIONS = frozenset(section for section, _ in _PLACES)
KNOWN_KEYS = _SECTIONS | {"id"}
_ALWAYS = (("action", "type"), ("action", "result"), ("actor", "type"))
"""What every row should have; its absence is a fault of the row."""
_EMPTY: tuple[Any, ...] = (None, "", {}, [])
_ANSWERED_WITH = frozenset({"token", "tokens"})
"""Words of addresses whose answer is a token."""
_ALSO = frozenset({"value", "result"})
"""The keys of that token, which say nothing by themselves."""

# Verbs have no names of objects behind them: a login method that is updated is no login.
_is_login = re.compile(r"(?i)(?:(?:sso|user|dashboard)[ _-])?log[ _-]?in(?:[ _-]\w+)?").fullmatch
_is_logout = re.compile(r"(?i)(?:(?:sso|user|dashboard)[ _-])?log[ _-]?out(?:[ _-]\w+)?").fullmatch
_MOST_STATUS = 999
_RESULTS = {"success": SUCCESS, "failure": FAILURE}

_OBJECTS = {
    "apps": "application",
    "policies": "policy",
    "groups": "rule_group",
    "identity_providers": "identity_provider",
    "idp_federation_grants": "identity_provider",
    "saml_certificates": "identity_provider",
    "service_tokens": "service_token",
    "users": "user",
    "seats": "user",
    "organizations": "organization",
    "keys": "organization",
    "certificates": "organization",
    "gateway_ca": "organization",
}
"""What the first word behind ``access/`` in an address is about."""
_BESIDE = {
    "members": "member",
    "memberships": "member",
    "roles": "member",
    "tokens": "api_token",
    "logpush": "logpush_job",
}
"""The same for addresses elsewhere that matter to whoever watches Access."""
_ZERO_TRUST = frozenset(
    {
        *("access", "audit_ssh_settings", "cfd_tunnel", "connectivity", "devices", "dex", "dlp"),
        *("gateway", "infrastructure", "seats", "sso", "sso_connectors", "teamnet", "tunnels"),
        *("warp", "warp_connector", "zerotrust"),
    }
)
"""Words of addresses that concern Access or Zero Trust."""
_is_zero_trust = re.compile(
    r"(?i)access|zero.?trust|gateway|tunnel|warp|device|posture|teams|sso|member|token|logpush"
).search
"""Matches a product or a type that concerns Access or Zero Trust."""
# What stands for one thing among many: a UUID, a long hexadecimal number, any number, an address.
_ID = re.compile(r"(?<=/)(?:[0-9a-fA-F-]{16,}|[0-9]+|[^/]*[@%][^/]*)(?=/|$)")
_PREFIX = re.compile(r"^(?:https?://[^/]*)?(?:/client/v4|/api/v4)?(?=/)")


def native_id(row: Row) -> str:
    """Return the id that Cloudflare gave the row, or nothing."""
    return text(row.get("id"))


def concerns_access(row: Row) -> bool:
    """Return True unless the row is certainly about something else than Access and Zero Trust.

    A row that says neither address nor product may be about anything, and is kept.
    """
    uri, resource = text(section(row, "raw").get("uri")), section(row, "resource")
    words = [text(resource.get(name)) for name in ("product", "type")]
    described = text(section(row, "action").get("description"))
    if _is_login(described) or _is_logout(described) or any(map(_is_zero_trust, words)):
        return True
    if uri:
        segments = set(_segments(uri))
        return not segments.isdisjoint(_ZERO_TRUST) or not segments.isdisjoint(_BESIDE)
    return not any(words)


def mask_audit(row: Row, *, bodies: bool = True) -> Row:
    """Return the row without secrets, or without bodies; the row itself if it has none."""
    row = mask_row(row)
    resource = section(row, "resource")
    if not bodies and not BODIES.isdisjoint(resource):
        resource = {key: value for key, value in resource.items() if key not in BODIES}
        row = {**row, "resource": resource}
    found = {name: section(row, name) for name in _SECTIONS if section(row, name)}
    masked = {name: mask_columns(inner) for name, inner in found.items()}
    if given := {name: resource[name] for name in BODIES if resource.get(name) not in _EMPTY}:
        also = _ALSO if _is_about_tokens(row) else frozenset[str]()
        masked_bodies = {name: _masked(value, also) for name, value in given.items()}
        masked["resource"] = {**resource, **masked["resource"], **masked_bodies}
    rest = mask_columns({key: value for key, value in row.items() if key not in found})
    whole = {**row, **rest, **masked}
    return row if whole == row else whole


def _is_about_tokens(row: Row) -> bool:
    """Return True unless the row is certainly about something else than keys of the API."""
    uri, resource = text(section(row, "raw").get("uri")), section(row, "resource")
    words = f"{resource.get('product')} {resource.get('type')}".lower()
    return not uri or not _ANSWERED_WITH.isdisjoint(_segments(uri)) or "token" in words


def _masked(body: Any, also: frozenset[str]) -> Any:
    """Return a body without secrets; texts under the keys in ``also`` are secrets, too."""
    if isinstance(body, str) and (also or body.lstrip()[:1] not in {"{", "["}):
        # Not JSON: the whole text may be a key, such as a tunnel's.
        return MASK
    return mask_value(body, also)


def normalise_audit(row: Row, origin: Origin, id: str, time_us: int) -> AdminActivity:  # noqa: A002
    """Return the activity in ``row``; see ``core.schema.Normalise``."""
    row = mask_audit(row)  # again: an older version may have stored it with weaker rules
    found = {name: text(section(row, at).get(key)) for name, (at, key) in _TEXTS.items()}
    status = section(row, "raw").get("status_code")
    address = found["ip_address"]
    version = ip_version(address)
    resource = section(row, "resource")
    return AdminActivity(
        origin,
        id=id,
        time_us=time_us,
        row=row,
        quality=_quality(row, address_fits=version > 0 or not address),
        extra=_extra(row),
        activity=_activity(row, found["description"]),
        object=_object(found["uri"]) if found["uri"] else _named_object(found),
        operation=_operation(found["method"], found["uri"]),
        outcome=_RESULTS.get(found["result"].lower(), UNKNOWN),
        status_code=status if _is_status(status) else None,
        ip_version=version,
        request_body=_body(resource.get("request")),
        response_body=_body(resource.get("response")),
        row_id=native_id(row),
        **{**found, "ip_address": address if version else ""},
    )


def _activity(row: Row, description: str) -> str:
    kind = text(section(row, "action").get("type")).lower()
    if _is_logout(description) or kind == "logout":
        return "logout"
    return "login" if _is_login(description) or kind == "login" else kind


def _object(uri: str) -> str:
    """Return the kind of object that an address is about, or nothing."""
    segments = _segments(uri)
    if "access" in segments:
        below = segments[segments.index("access") + 1 :]
        if "policies" in below:
            return "policy"
        if "revoke_user" in below:
            return "user"
        return _OBJECTS.get(below[0] if below else "", "access")
    return next((_BESIDE[name] for name in segments if name in _BESIDE), "")


def _named_object(found: Mapping[str, str]) -> str:
    """Return the kind of object of a row without an address, such as one of Cloudflare itself."""
    word = re.sub(r"[ -]", "_", found["resource_type"].lower())
    own = word in _OBJECTS.values() and "access" in found["product"].lower()
    return word if own or word in _BESIDE.values() else ""


def _segments(uri: str) -> list[str]:
    return uri.partition("?")[0].lower().split("/")


def _operation(method: str, uri: str) -> str:
    """Return ``PUT /accounts/{id}/access/apps/{id}``: the same for all rows of a kind."""
    path = _ID.sub("{id}", _PREFIX.sub("", uri.partition("?")[0]))
    return " ".join(filter(None, [method.upper(), path]))


def _is_status(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST_STATUS


def _body(value: Any) -> str:
    if value in _EMPTY:
        return ""
    return value if isinstance(value, str) else dumps(value).decode()


def _quality(row: Row, *, address_fits: bool) -> tuple[str, ...]:
    """Return what is missing or not what its key promises."""
    if MALFORMED_KEY in row:
        return ("malformed",)
    faults = [] if parse_us(section(row, "action").get("time")) is not None else ["time"]
    faults += [] if native_id(row) else ["id"]
    faults += [f"{at}.{key}" for at, key in _ALWAYS if not text(section(row, at).get(key))]
    faults += [f"{at}.{key}" for at, key, _ in _misfits(row) if f"{at}.{key}" not in faults]
    return tuple(faults if address_fits else [*faults, "actor.ip_address"])


def _misfits(row: Row) -> Iterator[tuple[str, str, Any]]:
    """Give the known places whose value is of another kind than they promise."""
    for at, key in sorted(_PLACES):
        value = section(row, at).get(key)
        fits = isinstance(value, str) or value is None or (at == "resource" and key in BODIES)
        if key == "status_code":
            fits = value is None or _is_status(value)
        # The documentation's example has an empty object as a scope.
        if not fits and (key != "scope" or value != {}):
            yield at, key, value


def _extra(row: Row) -> dict[str, Any]:
    """Return what the common schema has no place for, where the row has it."""
    extra = {k: v for k, v in row.items() if k not in KNOWN_KEYS and v not in _EMPTY}
    if row.get("id") not in _EMPTY and not native_id(row):
        extra["id"] = row["id"]
    misfits = {(at, key) for at, key, _ in _misfits(row)}
    for at in (key for key in row if key in _SECTIONS):
        value = row[at]
        if not isinstance(value, Mapping):
            rest = value
        else:
            rest = {k: v for k, v in value.items() if (at, k) not in _PLACES or (at, k) in misfits}
        if rest not in _EMPTY:
            extra[at] = rest
    address = section(row, "actor").get("ip_address")
    if isinstance(address, str) and address and not ip_version(address):
        extra["actor"] = {**section(extra, "actor"), "ip_address": address}
    return extra


def section(row: Row, name: str) -> Row:
    """Return the object that a row has under a key, an empty one if it has none."""
    value = row.get(name)
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str:
    """Return a text, nothing in place of anything else."""
    return value if isinstance(value, str) else ""


ACCOUNT_AUDIT = Normaliser(normalise_audit, KNOWN_KEYS)
"""How the rows of stream ``account_audit`` become events."""

# Temporary access: a row is a step of a request, with what does not change of the request.

REQUEST_ID = "knock_request_id"
OF_REQUEST = (
    REQUEST_ID,
    "requester_email",
    "app_aud",
    "app_hostname",
    "purpose_justification",
    "created_at",
)
"""What does not change while a request is open: a part of each of its steps."""


def step_id(row: Row) -> str:
    """Return what tells one step from all others, nothing for a row that is not a step."""
    event = row.get("event")
    # Without its time, one login of many would stand for all of them.
    if not isinstance(event, Mapping) or not text(event.get("timestamp")) or MALFORMED_KEY in row:
        return ""
    parts = [row.get(REQUEST_ID), *(event.get(key) for key in ("timestamp", "type", "actor_uuid"))]
    return dumps(parts).decode()


def mask_step(row: Row) -> Row:
    """Return a step without secrets, which people may have put into their reasons."""
    row = mask_row(row)
    event = mask_columns(section(row, "event"))
    rest = mask_columns({key: value for key, value in row.items() if key != "event" or not event})
    whole = {**row, **rest, **({"event": event} if event else {})}
    return row if whole == row else whole


_DECISIONS = {"APPROVED": "approve", "APPROVE": "approve", "DENIED": "deny", "DENY": "deny"}
_ACTIVITIES = {
    "CREATED": "create",
    "COMMITTED": "commit",
    "CANCELED": "cancel",
    "LOGIN_SUCCESS": "use",
    "REDIRECT_TO_ACTIVE": "redirect",
}
_OF_REQUESTER = frozenset({"CREATED", "LOGIN_SUCCESS", "REDIRECT_TO_ACTIVE"})
"""Steps that are the requester's own; an approver that is not named must not seem to be them."""
_STEP_KEYS = frozenset({*OF_REQUEST, "event"})
_OF_EVENT = frozenset({"type", "timestamp", "actor_email", "actor_uuid", "success", "ray_id"})


def normalise_step(row: Row, origin: Origin, id: str, time_us: int) -> AdminActivity:  # noqa: A002
    """Return the step of a request in ``row``; see ``core.schema.Normalise``."""
    row = mask_step(row)
    event = section(row, "event")
    kind, success = text(event.get("type")), event.get("success")
    decision = _DECISIONS.get(text(event.get("decision_outcome")).upper(), "decide")
    activity = decision if kind == "APPROVER_DECISION" else _ACTIVITIES.get(kind, kind.lower())
    requester = text(row.get("requester_email")) if kind in _OF_REQUESTER else ""
    actor_id, email = text(event.get("actor_uuid")), text(event.get("actor_email")) or requester
    rest = {k: v for k, v in event.items() if k not in _OF_EVENT or not _step_fits(k, v)}
    return AdminActivity(
        origin,
        id=id,
        time_us=time_us,
        row=row,
        quality=_step_quality(row, event),
        extra={
            **{key: row[key] for key in OF_REQUEST[1:] if row.get(key) not in (None, "")},
            **{key: value for key, value in row.items() if key not in _STEP_KEYS},
            **({"event": rest} if rest else {}),
            **({"event": row["event"]} if row.get("event") and not event else {}),
        },
        activity=activity,
        object="temporary_access",
        operation=kind,
        outcome=SUCCESS if success is True else FAILURE if success is False else UNKNOWN,
        row_id=text(row.get(REQUEST_ID)),
        occurred_at=text(event.get("timestamp")),
        description=kind,
        result=text(event.get("decision_outcome")),
        actor_id=actor_id,
        actor_email=email,
        actor_type="user" if actor_id or email else "",
        ray_id=text(event.get("ray_id")),
        resource_id=text(row.get(REQUEST_ID)),
        # What the request is about: the other formats show it beside the kind of object.
        product=text(row.get("app_hostname")),
        resource_type="temporary_access",
    )


def _step_quality(row: Row, event: Row) -> tuple[str, ...]:
    if MALFORMED_KEY in row:
        return ("malformed",)
    faults = [] if parse_us(event.get("timestamp")) is not None else ["time"]
    faults += [] if text(row.get(REQUEST_ID)) else [REQUEST_ID]
    return tuple(faults if text(event.get("type")) else [*faults, "event.type"])


def _step_fits(key: str, value: Any) -> bool:
    return value is None or isinstance(value, bool if key == "success" else str)


STEPS = Normaliser(normalise_step, _STEP_KEYS)
"""How the rows of stream ``jit_requests`` become events."""
