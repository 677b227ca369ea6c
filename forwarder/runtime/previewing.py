"""``forwarder preview``: what each sink would receive for given rows."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from forwarder.config import ForwarderSettings
from forwarder.core.contracts import Rendered, StoredPage
from forwarder.core.identity import Identifier
from forwarder.core.timing import parse_us
from forwarder.runtime.rendering import Rendering

_TIME_KEYS = ("created_at", "logged_at", "time")
EXAMPLES: Sequence[tuple[str, Mapping[str, Any]]] = (
    (
        "access_requests",
        {
            "action": "login",
            "allowed": True,
            "app_domain": "test.example.com/admin",
            "app_uid": "df7e2a5f-02b7-4d9d-af26-8d1988fca630",
            "connection": "saml",
            "country": "us",
            "created_at": "2026-01-01T05:20:00.12345Z",
            "ip_address": "198.51.100.166",
            "ray_id": "187d944c61940c77",
            "user_email": "user@example.com",
        },
    ),
    (
        "scim_updates",
        {
            "cf_resource_id": "bd97ef8d-7986-43e3-9ee0-c25dda33e4b0",
            "idp_id": "df7e2a5f-02b7-4d9d-af26-8d1988fca630",
            "idp_resource_id": "all_employees",
            "logged_at": "2026-01-01T05:20:00.12345Z",
            "request_body": '{"displayName":"ALL_EMPLOYEES"}',
            "http_method": "POST",
            "resource_group_name": "ALL_EMPLOYEES",
            "resource_type": "GROUP",
            "status": "SUCCESS",
        },
    ),
)
"""Shown when no rows are given; shaped like the API's documentation."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One row and what became of it.

    ``bodies`` has None where a sink's filters drop it, and the reason where rendering it failed.
    """

    stream: str
    row: Mapping[str, Any]
    bodies: Mapping[str, bytes | None]


def previews(
    settings: ForwarderSettings,
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    sinks: Sequence[str],
    now_us: int,
) -> list[Preview]:
    """Return what the sinks (all when none is named) would receive for (stream, row) pairs."""
    rendering = Rendering(settings)
    renders = {
        sink.name: rendering.render_for(sink)
        for sink in settings.sinks
        if not sinks or sink.name in sinks
    }
    account_id = settings.accounts[0].account_id
    found: list[Preview] = []
    for stream, row in rows:
        page = _page(account_id, stream, row, now_us)
        bodies = {name: shown(render(page)) for name, render in renders.items()}
        found.append(Preview(stream, row, bodies))
    return found


def stream_of(row: Mapping[str, Any]) -> str:
    """Return the stream that a row looks like it came from."""
    return "scim_updates" if {"idp_id", "resource_type"} & row.keys() else "access_requests"


def shown(rendered: Rendered) -> bytes | None:
    """Return what a page of one row became: the body, why there is none, or None if left out."""
    if rendered.failed:
        return f"({rendered.failed[0].reason})".encode()
    return next((event.body for event in rendered.events), None)


def _page(account_id: str, stream: str, row: Mapping[str, Any], now_us: int) -> StoredPage:
    times = (parse_us(row.get(key)) for key in _TIME_KEYS)
    time_us = next((t for t in times if t is not None), now_us)
    identity = Identifier(account_id, stream).identity(row)
    body = orjson.dumps([row])
    return StoredPage(1, account_id, stream, now_us, array("q", [time_us]), identity, body)
