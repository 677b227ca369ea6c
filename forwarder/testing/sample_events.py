"""The sample rows as events and as pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from forwarder.core.contracts import StoredPage
from forwarder.core.own_events import OWN_EVENTS
from forwarder.core.schema import Event, Normaliser, Origin
from forwarder.core.timing import parse_us
from forwarder.sources.cloudflare_access.login_mapping import LOGINS
from forwarder.sources.cloudflare_access.scim_mapping import SCIM_UPDATES
from forwarder.testing.sample_rows import ACCOUNT, ACCOUNT_ID, ROWS

SEEN_US = 1_783_004_700_000_000
"""When the sample rows were first seen: 2026-07-02T15:05:00Z."""

NORMALISERS: Mapping[str, Normaliser] = {
    "access_requests": LOGINS,
    "scim_updates": SCIM_UPDATES,
    "forwarder": OWN_EVENTS,
}
ACCOUNTS: Mapping[str, str] = {ACCOUNT_ID: ACCOUNT}


def time_of(row: Mapping[str, Any]) -> int:
    """Return the time that ingest would give ``row``: its own, else when it was first seen."""
    found = (parse_us(row.get(key)) for key in ("created_at", "logged_at", "time"))
    return next((time_us for time_us in found if time_us is not None), SEEN_US)


def id_of(row: Mapping[str, Any]) -> str:
    """Return 32 hex digits that are always the same for ``row``."""
    return blake2b(repr(sorted(row.items())).encode(errors="replace"), digest_size=16).hexdigest()


def event_of(stream: str, row: Mapping[str, Any], origin: Origin | None = None) -> Event:
    """Return the event of one row."""
    origin = origin or Origin(ACCOUNT_ID, ACCOUNT, stream, SEEN_US)
    return NORMALISERS[stream].normalise(row, origin, id_of(row), time_of(row))


def page_of(stream: str, rows: Sequence[Mapping[str, Any]], *, first_offset: int = 0) -> StoredPage:
    """Return rows as the journal hands them out."""
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
