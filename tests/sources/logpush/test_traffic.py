"""Requests and sessions: which rows passed Access, and what becomes of their values."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given

from forwarder.core.masking import MASK
from forwarder.core.schema import OwnEvent, Traffic
from forwarder.formats.cim import CimFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.shape import EventFilter, Shape
from forwarder.formats.templates import FormatConfig
from forwarder.testing.samples import ACCOUNTS, NORMALISERS, event_of, page_of
from forwarder.testing.samples_of_pushes import REQUEST, SESSION
from tests.formats.strategies import request_rows, session_rows

REQUESTS, SESSIONS = "logpush_http_requests", "logpush_zero_trust_network_sessions"


def traffic(stream: str, row: dict[str, Any]) -> Traffic:
    event = event_of(stream, row)
    assert isinstance(event, Traffic)
    return event


@pytest.mark.parametrize(
    "change",
    [
        {"RequestHeaders": {"x-team": "search"}},
        {"RequestHeaders": {"cf-access-user": ""}},
        {"RequestHeaders": {"cf-access-user": 17}},
        {"RequestHeaders": "cf-access-user"},
        {"RequestHeaders": None},
        {"ClientIP": "nowhere"},
        {"ClientRequestHost": ""},
        {"ClientRequestMethod": None},
        {"EdgeResponseStatus": "200"},
        {"EdgeResponseStatus": True},
        {"_forwarder_malformed": "cut"},
    ],
)
def test_a_request_without_an_identity_or_a_part_of_it_has_no_mapping(
    change: dict[str, Any],
) -> None:
    event = event_of(REQUESTS, {**REQUEST, **change})

    assert isinstance(event, OwnEvent)
    assert event.outcome == "unknown"
    assert {**REQUEST, **change}.items() <= event.row.items()


@pytest.mark.parametrize("change", [{"SessionID": ""}, {"SourceIP": None}, {"SourceIP": "x"}])
def test_a_session_without_an_id_or_an_address_has_no_mapping(change: dict[str, Any]) -> None:
    assert isinstance(event_of(SESSIONS, {**SESSION, **change}), OwnEvent)


@pytest.mark.parametrize(
    ("status", "outcome"), [(101, "success"), (399, "success"), (400, "failure"), (0, "unknown")]
)
def test_a_status_decides_on_the_outcome_of_a_request(status: int, outcome: str) -> None:
    assert traffic(REQUESTS, {**REQUEST, "EdgeResponseStatus": status}).outcome == outcome


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("CLIENT_IDLE_TIMEOUT", "success"),
        ("ORIGIN_TLS_ERROR", "failure"),
        ("PROXY_CONN_REFUSED", "failure"),
        ("UNKNOWN", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_reason_decides_on_the_outcome_of_a_session(reason: Any, outcome: str) -> None:
    row = {**SESSION, "ConnectionCloseReason": reason}

    assert traffic(SESSIONS, row).outcome == outcome


def test_a_request_is_taken_apart() -> None:
    found = traffic(REQUESTS, dict(REQUEST))

    assert found.url == "https://kibana.example.com/app/home?tab=1"
    assert (found.path, found.query, found.country) == ("/app/home", "tab=1", "US")
    assert (found.user, found.email) == ("ann@example.com", "ann@example.com")
    assert (found.duration_ms, found.quality) == (200, ())


@pytest.mark.parametrize(
    ("end", "duration_ms", "quality"),
    [
        ("2026-07-02T15:03:04Z", None, ()),
        (1_783_004_645_500_000_000, 60_500, ()),
        ("2027-07-02T15:03:05Z", None, ()),
        ("soon", None, ("time",)),
        (None, None, ("time",)),
    ],
)
def test_a_duration_is_written_where_both_times_are_known_and_in_order(
    end: Any, duration_ms: int | None, quality: tuple[str, ...]
) -> None:
    found = traffic(SESSIONS, {**SESSION, "SessionEndTime": end})

    assert (found.duration_ms, found.quality) == (duration_ms, quality)


@given(request_rows | session_rows)
def test_what_a_key_does_not_promise_stays_in_extra(row: dict[str, Any]) -> None:
    """Nothing is lost: each value is in a field of its own, or in ``extra`` as received."""
    for stream in (REQUESTS, SESSIONS):
        event = event_of(stream, row)
        if not isinstance(event, Traffic):
            continue
        fields = {str(value).lower() for value in event._asdict().values()}
        uri = f"{event.path}?{event.query}" if "?" in str(row.get("ClientRequestURI")) else ""
        fields |= {uri.lower()}
        for key, value in event.row.items():
            empty = value in ("", None, {}, [])
            assert empty or event.extra.get(key) == value or str(value).lower() in fields, key
        assert set(event.quality) - {"time"} <= event.extra.keys()


def test_secrets_in_headers_are_masked() -> None:
    headers = {"cf-access-user": "ann@example.com", "authorization": "Bearer the-secret"}
    found = traffic(REQUESTS, {**REQUEST, "RequestHeaders": headers})

    assert found.extra["RequestHeaders"]["authorization"] == MASK
    assert b"the-secret" not in orjson.dumps([found.row, found.extra])


def test_a_filter_leaves_out_what_did_not_pass_access() -> None:
    strange = {**REQUEST, "RequestHeaders": {}}
    shape = Shape(unless=EventFilter(stream=(REQUESTS,), outcome=("unknown",)))
    pipeline = Pipeline(CimFormat(FormatConfig()), NORMALISERS, ACCOUNTS, shape)

    (event,) = pipeline(page_of(REQUESTS, [REQUEST, strange])).events

    assert event.user == "ann@example.com"


def test_a_hashed_user_is_still_a_request_that_passed_access() -> None:
    path = "RequestHeaders.cf-access-user"
    shape = Shape(hash_fields=(path,), hash_key=b"k")
    pipeline = Pipeline(CimFormat(FormatConfig()), NORMALISERS, ACCOUNTS, shape)

    (event,) = pipeline(page_of(REQUESTS, [REQUEST])).events

    assert len(event.user) == 32
    assert b"ann@example.com" not in event.body
    assert b'"url":"https://kibana.example.com/app/home?tab=1"' in event.body
