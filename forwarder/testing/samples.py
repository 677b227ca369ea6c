"""Sample rows of every kind that is documented, seen or feared, as rows, events and pages.

Contract suites and golden files use them. Names, addresses and ids are invented.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from forwarder.core import own_events
from forwarder.core.contracts import StoredPage
from forwarder.core.schema import Event, Normaliser, Origin
from forwarder.core.timing import parse_us
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.logpush.mapping import NORMALISERS as PUSHED
from forwarder.sources.logpush.rows import time_us_of
from forwarder.testing.optional_samples import (
    ACCOUNT_AUDIT,
    HOSTILE,
    JIT_REQUESTS,
    NON_IDENTITY_LOGINS,
)
from forwarder.testing.samples_of_pushes import HTTP_REQUESTS, SESSIONS

ACCOUNT_ID = "023e105f4ecef8ad9ca31a8372d0c353"
ACCOUNT = "acme"

LOGIN: Mapping[str, Any] = {
    "created_at": "2026-07-02T15:03:00Z",
    "user_email": "ann@example.com",
    "user_id": "b4bf51f2-c72b-50b1-a179-20b76a49b18b",
    "ip_address": "203.0.113.10",
    "country": "US",
    "app_domain": "kibana.example.com",
    "app_name": "Kibana",
    "app_uid": "968a35b8-def0-45de-9d2f-f65d514fa76c",
    "app_type": "self_hosted",
    "action": "login",
    "allowed": True,
    "connection": "azureAD",
    "ray_id": "a1cbcd95da9aa9e9",
}
SCIM: Mapping[str, Any] = {
    "cf_resource_id": "bd97ef8d-7986-43e3-9ee0-c25dda33e4b0",
    # Cloudflare's own example: a w is no hex digit, so an id is a text and no UUID.
    "idp_id": "df7e2w5f-02b7-4d9d-af26-8d1988fca630",
    "idp_resource_id": "all_employees",
    "logged_at": "2026-07-02T15:04:05.12345Z",
    "status": "SUCCESS",
}
_USER = {**SCIM, "resource_type": "USER", "resource_user_email": "ann@example.com"}
_GROUP = {**SCIM, "resource_type": "GROUP", "resource_group_name": "Engineering"}
_NEW_USER = (
    '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ann@example.com",'
    '"name":{"givenName":"Ann","familyName":"Example"},"active":true}'
)


def _without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def _patch(*operations: str) -> str:
    schema = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
    return f'{{"schemas":["{schema}"],"Operations":[{",".join(operations)}]}}'


LOGINS: Mapping[str, Mapping[str, Any]] = {
    "login": LOGIN,
    "login_as_documented": _without(LOGIN, "user_id", "country", "app_name", "app_type"),
    "login_denied": {**LOGIN, "allowed": False, "connection": "onetimepin"},
    "login_logout": {**LOGIN, "action": "logout", "connection": "saml"},
    "login_warp_ipv6": {
        **LOGIN,
        "ip_address": "2001:db8::c0de",
        "country": "de",
        "app_domain": "acme.cloudflareaccess.com/warp",
        "app_type": "warp",
        "connection": "google",
    },
    "login_service_token": {
        **_without(LOGIN, "user_id"),
        # Cloudflare puts the token's client id where a person has an e-mail address.
        "user_email": "e461d898a6b14a3f8f0d6f2a3c5b7e91.access",
        "connection": "nonidentity",
    },
    "login_without_identity": {
        **LOGIN,
        "user_email": "",
        "user_id": None,
        "connection": "nonidentity",
        "allowed": False,
    },
    "login_new_keys": {
        **LOGIN,
        "action": "reauthenticate",
        "connection": "Acme SSO",
        "device": {"posture": ["disk", 3, None]},
    },
    "login_wrong_values": {
        **LOGIN,
        "created_at": "yesterday",
        "user_email": ["ann@example.com"],
        "ip_address": "not an address",
        "country": "Utopia",
        "app_name": 17,
        "allowed": "yes",
    },
    "login_tor": {**LOGIN, "country": "T1", "allowed": False, "connection": "onetimepin"},
    "login_wildcard": {**LOGIN, "app_domain": "*.dev.example.com"},
    "login_port_and_query": {**LOGIN, "app_domain": "kibana.example.com:8443/app?tab=1"},
    "login_certificate": {
        **_without(LOGIN, "user_id"),
        "user_email": "printer-17",
        "connection": "nonidentity",
    },
    "login_beyond_ascii": {**LOGIN, "user_email": "j\u00f6rg@b\u00fccher.example"},
    "login_hostile": {**LOGIN, "user_email": HOSTILE, "app_name": HOSTILE, "ray_id": HOSTILE},
    "login_unreadable": {
        "user_email": "ann@example.com",
        "_forwarder_malformed": "lone surrogate at byte 17",
        "_forwarder_raw_base64": base64.b64encode(b'{"user_email":"\\ud800"}').decode(),
    },
}
SCIM_UPDATES: Mapping[str, Mapping[str, Any]] = {
    "scim_user_create": {**_USER, "http_method": "POST", "request_body": _NEW_USER},
    "scim_user_disable": {
        **_USER,
        "http_method": "PATCH",
        # Microsoft Entra ID writes the operation with a capital and the boolean as a text.
        "request_body": _patch('{"op":"Replace","path":"active","value":"False"}'),
    },
    "scim_user_enable": {
        **_USER,
        "request_method": "PATCH",
        # Without a path the value names the attributes (RFC 7644, 3.5.2.1).
        "request_body": _patch('{"op":"replace","value":{"active":true}}'),
    },
    "scim_user_password": {
        **_USER,
        "http_method": "PATCH",
        "request_body": _patch('{"op":"replace","path":"password","value":"Tr0ub4dor&3"}'),
    },
    "scim_user_update": {
        **_USER,
        "resource_group_name": None,
        "error_description": None,
        "http_method": "PUT",
        "request_body": '{"userName":"ann@example.com","active":"unknown","title":"Engineer"}',
    },
    "scim_user_error": {
        **_USER,
        "http_method": "POST",
        "status": "ERROR",
        "error_description": 'identity provider said "no"',
        "request_body": _NEW_USER,
    },
    "scim_user_failure": {
        **_USER,
        "http_method": "PUT",
        "status": "FAILURE",
        "error_description": "user ann@example.com: email does not match",
        "request_body": '{"userName":"ann@example.com","title":"Engineer"}',
    },
    "scim_user_delete": {**_without(_USER, "resource_user_email"), "http_method": "DELETE"},
    "scim_user_broken_body": {**_USER, "http_method": "POST", "request_body": "{}}"},
    "scim_user_put_active": {
        **_USER,
        "http_method": "PUT",
        "request_body": '{"userName":"ann@example.com","active":true,"title":"Engineer"}',
    },
    "scim_user_disable_failed": {
        **_USER,
        "http_method": "PATCH",
        "status": "FAILURE",
        "error_description": "user has no seat",
        "request_body": _patch(
            # An attribute may be named with its schema (RFC 7644, 3.10).
            '{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:User:active"'
            ',"value":false}'
        ),
    },
    "scim_user_named_in_body": {
        **_without(_USER, "resource_user_email"),
        "http_method": "POST",
        "request_body": '{"userName":"ann","emails":[{"value":"a@example.org"},'
        '{"value":"ann@example.com","primary":true}],"active":true}',
    },
    "scim_group_create": {
        **_GROUP,
        "http_method": "POST",
        "request_body": '{"displayName":"Engineering","members":[]}',
    },
    "scim_group_add_member": {
        **_GROUP,
        "http_method": "PATCH",
        "request_body": _patch(
            '{"op":"Add","path":"members","value":[{"value":"u-1","display":"Ann Example"}]}'
        ),
    },
    "scim_group_add_members": {
        **_GROUP,
        "http_method": "PATCH",
        "request_body": _patch(
            '{"op":"add","path":"members","value":[{"value":"u-1"},{"value":"u-2"}]}'
        ),
    },
    "scim_group_remove_member": {
        **_GROUP,
        "http_method": "PATCH",
        # One member of many is named by a filter in the path (RFC 7644, 3.5.2.2).
        "request_body": _patch('{"op":"remove","path":"members[value eq \\"u-1\\"]"}'),
    },
    "scim_group_swap_members": {
        **_GROUP,
        "http_method": "PATCH",
        "request_body": _patch(
            '{"op":"remove","path":"members[value eq \\"u-1\\"]"}',
            '{"op":"add","path":"members","value":[{"value":"u-2","display":"bob@example.com"}]}',
        ),
    },
    "scim_group_add_subgroup": {
        **_GROUP,
        "http_method": "PATCH",
        "request_body": _patch(
            '{"op":"add","path":"members","value":[{"value":"g-2","display":"QA","type":"Group"}]}'
        ),
    },
    "scim_group_rename": {
        **_GROUP,
        "http_method": "PATCH",
        "request_body": _patch('{"op":"replace","value":{"displayName":"R&D"}}'),
    },
    "scim_group_replace": {
        **_GROUP,
        "http_method": "PUT",
        "request_body": '{"displayName":"Engineering","members":[{"value":"u-1"},{"value":"u-2"}]}',
    },
    "scim_group_delete": {**_GROUP, "http_method": "DELETE"},
    "scim_unknown": {
        **SCIM,
        "resource_type": "ROLE",
        "http_method": "MERGE",
        "status": "PENDING",
        "request_body": 17,
    },
}
_OWN = {"time": "2026-07-02T15:05:00.000000Z"}
_ABOUT = {**_OWN, "account_id": ACCOUNT_ID, "account": ACCOUNT, "stream": "access_requests"}
_RANGE = {"from": "2026-07-01T00:00:00.000000Z", "to": "2026-07-01T06:00:00.000000Z"}
OWN_EVENTS: Mapping[str, Mapping[str, Any]] = {
    "own_start": {**_OWN, "event": "start", "version": "1.2.3"},
    "own_stop": {**_OWN, "event": "stop", "version": "1.2.3"},
    "own_config_reloaded": {**_OWN, "event": "config_reloaded", "detail": "sink bus added"},
    "own_gap_opened": {**_ABOUT, **_RANGE, "event": "gap_opened", "reason": "retention"},
    "own_gap_closed": {**_ABOUT, **_RANGE, "event": "gap_closed", "reason": "retention"},
    "own_late_rows": {**_ABOUT, **_RANGE, "event": "late_rows", "rows": 3},
    "own_coverage": {**_ABOUT, **_RANGE, "event": "coverage", "rows": 0, "sink": "bus"},
}
ROWS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "access_requests": LOGINS,
    "scim_updates": SCIM_UPDATES,
    "account_audit": ACCOUNT_AUDIT,
    "jit_requests": JIT_REQUESTS,
    "non_identity_logins": NON_IDENTITY_LOGINS,
    "logpush_http_requests": HTTP_REQUESTS,
    "logpush_zero_trust_network_sessions": SESSIONS,
    "forwarder": OWN_EVENTS,
}
"""All rows: stream, then name, then row."""


SEEN_US = 1_783_004_700_000_000
"""When the sample rows were first seen: 2026-07-02T15:05:00Z."""

NORMALISERS: Mapping[str, Normaliser] = {
    **CloudflareAccess.normalisers,
    **{f"logpush_{dataset}": normaliser for dataset, normaliser in PUSHED.items()},
    "forwarder": own_events.OWN_EVENTS,
}
ACCOUNTS: Mapping[str, str] = {ACCOUNT_ID: ACCOUNT}


def time_of(row: Mapping[str, Any]) -> int:
    """Return the time that ingest gives ``row``: its own, or when it was first seen."""
    inner = [row.get("action"), row.get("event")]
    times = [
        one.get(key) for one in inner if isinstance(one, Mapping) for key in ("time", "timestamp")
    ]
    times += [row.get(key) for key in ("created_at", "logged_at", "datetime", "time")]
    found = (*map(parse_us, times), time_us_of(row))
    return next((time_us for time_us in found if time_us is not None), SEEN_US)


def id_of(row: Mapping[str, Any]) -> str:
    """Return 32 hex digits, always the same for the same row."""
    return blake2b(repr(sorted(row.items())).encode(errors="replace"), digest_size=16).hexdigest()


def event_of(stream: str, row: Mapping[str, Any], origin: Origin | None = None) -> Event:
    """Return the event of one row."""
    origin = origin or Origin(ACCOUNT_ID, ACCOUNT, stream, SEEN_US)
    return NORMALISERS[stream].normalise(row, origin, id_of(row), time_of(row))


def page_of(stream: str, rows: Sequence[Mapping[str, Any]], *, first_offset: int = 0) -> StoredPage:
    """Return rows as the journal returns them."""
    return StoredPage(
        first_offset=first_offset,
        account_id=ACCOUNT_ID,
        stream=stream,
        seen_us=SEEN_US,
        times_us=tuple(map(time_of, rows)),
        ids=bytes.fromhex("".join(map(id_of, rows))),
        body=orjson.dumps(list(rows)),
    )


def sample_events() -> list[Event]:
    """Return an event for each sample row."""
    return [event_of(stream, row) for stream, rows in ROWS.items() for row in rows.values()]
