"""Rows of a dataset: their times, their identities, their secrets, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import StreamKey
from forwarder.core.masking import MASK
from forwarder.core.schema import MALFORMED_KEY, Origin, Traffic
from forwarder.core.timing import moment_us
from forwarder.formats.cim import CimFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.templates import FormatConfig
from forwarder.sources.cloudflare_access import activity_mapping
from forwarder.sources.cloudflare_access.activity_mapping import normalise_audit
from forwarder.sources.cloudflare_access.login_mapping import normalise_login
from forwarder.sources.logpush import mapping
from forwarder.sources.logpush.body import Cutter
from forwarder.sources.logpush.mapping import (
    ACTIVITY_NAMES,
    LOGIN_NAMES,
    normalise_pushed_activity,
    normalise_pushed_login,
)
from forwarder.sources.logpush.rows import RowReader, joined
from forwarder.testing.samples import ACCOUNTS, LOGINS, NORMALISERS, ROWS, event_of, page_of

ORIGIN = Origin("a" * 32, "acme", "logpush_access_requests", 1_800_000_000_000_000)
NOON_US = 1_685_000_000_123_456
PUSHED_NAMES = {ours: theirs for theirs, ours in LOGIN_NAMES.items()}


def reader(dataset: str) -> RowReader:
    return RowReader("a" * 32, f"logpush_{dataset}", dataset)


def pushed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a login of the API as Logpush would have written it."""
    return {PUSHED_NAMES.get(key, key): value for key, value in row.items()}


@pytest.mark.parametrize(
    ("value", "time_us"),
    [
        ("2023-05-25T07:33:20.123456789Z", NOON_US),
        ("2023-05-25T17:03:20.123456+09:30", NOON_US),
        (NOON_US * 1000 + 789, NOON_US),
        (str(NOON_US * 1000 + 789), NOON_US),
        (NOON_US, NOON_US),
        (NOON_US // 1000, NOON_US // 1000 * 1000),
        (NOON_US // 1_000_000, NOON_US // 1_000_000 * 1_000_000),
        (0, None),
        (-1, None),
        (True, None),
        (1.5, None),
        (None, None),
        (10**30, None),
        ("9" * 5000, None),
        ("soon", None),
    ],
)
def test_a_time_is_read_in_every_format_that_a_job_can_ask_for(
    value: Any, time_us: int | None
) -> None:
    assert moment_us(value) == time_us


@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=12))
def test_lines_are_the_same_however_the_text_comes_in_pieces(text: bytes, sizes: list[int]) -> None:
    cutter, lines, place = Cutter(2**20), list[Any](), 0
    for size in [*sizes, len(text)]:
        lines += cutter.feed(text[place : place + size])
        place += size
    lines += cutter.feed(b"\n")

    assert lines == [line.strip() for line in text.split(b"\n") if line.strip()]


def test_rows_with_an_id_of_their_own_are_one_row_whatever_else_they_say() -> None:
    first = reader("audit_logs_v2").read([b'{"AuditLogID":"a","ActorType":"user"}'])
    again = reader("audit_logs_v2").read(
        [b'{"ActorType":"system","AuditLogID":"a"}', b'{"AuditLogID":"b"}', b'{"AuditLogID":""}']
    )

    assert first.records.identities[0] == again.records.identities[0]
    assert len(set(again.records.identities)) == 3
    assert (frozenset(), frozenset({2})) == (first.twins, again.twins)


def test_a_ray_alone_makes_no_request_of_a_worker_the_same() -> None:
    read = reader("http_requests").read(
        [b'{"RayID":"a","ParentRayID":"x"}', b'{"RayID":"a","ParentRayID":"y"}']
    )

    assert len(set(read.records.identities)) == 2
    assert read.twins == frozenset()


def test_long_integers_and_keys_that_stand_twice_are_marked_and_never_changed_silently() -> None:
    digits = "9" * 30
    read = reader("http_requests").read(
        [b'{"RayID":"a","n":%s}' % digits.encode(), b'{"RayID":"b"}', b'{"x":1,"x":2}', b"[1]"]
    )

    rows = [orjson.loads(record.row) for record in read.records]
    assert read.malformed == 3
    assert rows[0]["n"] == digits
    assert [True, False, True, True] == [MALFORMED_KEY in row for row in rows]


def test_secrets_in_objects_are_masked_before_storage_and_change_no_identity() -> None:
    line = (
        b'{"AuditLogID":"a","ResourceRequest":{"client_secret":"s3cret","name":"x"},"Cookies":{}}'
    )
    read = reader("audit_logs_v2").read([line])
    harmless = reader("audit_logs_v2").read([b'{"AuditLogID":"a"}'])

    (row,) = [orjson.loads(record.row) for record in read.records]
    assert {"client_secret": MASK, "name": "x"} == row["ResourceRequest"]
    assert b"s3cret" not in read.records.text
    assert read.records.identities == harmless.records.identities


def test_parts_of_a_body_are_joined_row_by_row() -> None:
    reads = [
        reader("audit_logs_v2").read([b'{"AuditLogID":"a"}', b'{"x":1}']),
        reader("audit_logs_v2").read([b'{"AuditLogID":"b"}', b"no row"]),
    ]
    whole = joined(reads)

    assert orjson.loads(whole.records.text) == [orjson.loads(one.row) for one in whole.records]
    assert (frozenset({1, 3}), 1) == (whole.twins, whole.malformed)
    assert len(whole.records) == 4


@pytest.mark.parametrize("name", LOGINS)
def test_a_pushed_login_means_what_the_polled_one_means(name: str) -> None:
    row = LOGINS[name]
    polled = normalise_login(row, ORIGIN, "0" * 32, NOON_US)
    found = normalise_pushed_login(pushed(row), ORIGIN, "0" * 32, NOON_US)

    different = {key for key, value in found._asdict().items() if value != getattr(polled, key)}
    assert different <= {"row", "extra"}
    assert found.row == pushed(row)


def pushed_activity(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an activity of the API as Logpush would have written it."""
    found: dict[str, Any] = {"AuditLogID": row["id"], "ActorTokenDetails": {}}
    places = {place: name for name, place in ACTIVITY_NAMES.items()}
    for section in ("account", "action", "actor", "resource", "zone"):
        for key, value in (row.get(section) or {}).items():
            if (section, key) in places:
                found[places[section, key]] = value
            else:
                found["ActorTokenDetails"][key.title().replace("_", "")] = value
    if row.get("raw"):
        found["Raw"] = {key.title().replace("_", ""): value for key, value in row["raw"].items()}
    return found


def test_each_value_that_is_read_of_an_activity_has_a_name_in_a_push() -> None:
    named = {
        (section, name)
        for section, names in vars(mapping)["_OBJECTS"].values()
        for name in names.values()
    }

    assert vars(activity_mapping)["_PLACES"] == {*ACTIVITY_NAMES.values()} | named


SECTIONS = ("account", "action", "actor", "raw", "resource", "zone")
ACTIVITIES = [
    name
    for name, row in ROWS["account_audit"].items()
    # What a push has at its top cannot be of a wrong kind as a whole.
    if all(isinstance(row.get(section) or {}, dict) for section in SECTIONS)
]


@pytest.mark.parametrize("name", ACTIVITIES)
def test_a_pushed_activity_means_what_the_polled_one_means(name: str) -> None:
    row = ROWS["account_audit"][name]
    polled = normalise_audit(row, ORIGIN, "0" * 32, NOON_US)
    found = normalise_pushed_activity(pushed_activity(row), ORIGIN, "0" * 32, NOON_US)

    different = {key for key, value in found._asdict().items() if value != getattr(polled, key)}
    assert different <= {"row", "extra"}


@pytest.mark.parametrize("key", ["id", "account", "action", "actor", "raw", "resource", "zone"])
@pytest.mark.parametrize("value", ["x", 17, None, [], {"type": 3}])
def test_a_key_that_only_answers_of_the_api_have_stops_no_push(key: str, value: Any) -> None:
    row = {key: value, "AuditLogID": "a", "ActionType": "update", "ResourceID": "r"}
    read = reader("audit_logs_v2").read([orjson.dumps(row)])
    found = normalise_pushed_activity(row, ORIGIN, "0" * 32, NOON_US)

    assert (len(read.records), found.row_id, found.activity) == (1, "a", "update")
    assert found.extra.get(f"{key}_") == (value or None)


def test_the_answer_to_a_new_token_is_masked_before_storage() -> None:
    """It is a secret under a key that does not say so."""
    row = {
        "AuditLogID": "a",
        "Raw": {"URI": "/user/tokens", "Method": "POST"},
        "ResourceResponse": {"value": "the-new-token", "name": "x"},
    }
    read = reader("audit_logs_v2").read([orjson.dumps(row)])

    assert b"the-new-token" not in read.records.text
    assert b"the-new-token" not in orjson.dumps(
        normalise_pushed_activity(row, ORIGIN, "0" * 32, NOON_US).row
    )


@pytest.mark.parametrize(
    ("dataset", "value"),
    [
        ("audit_logs", {"NewValue": '{"password":"the-secret"}', "ID": "a"}),
        ("audit_logs", {"Metadata": '[{"api_token":"the-secret"}]', "ID": "a"}),
        ("audit_logs_v2", {"Raw": {"URI": "/x?a=1&token=the-secret"}, "AuditLogID": "a"}),
        ("audit_logs_v2", {"ResourceResponse": [{"Value": "the-secret"}], "AuditLogID": "a"}),
        ("audit_logs_v2", {"ActionDescription": "?api_key=the-secret", "AuditLogID": "a"}),
        ("audit_logs_v2", {"ActorTokenDetails": {"Secret": "the-secret"}, "AuditLogID": "a"}),
        ("http_requests", {"ClientRequestURI": "/x?access_token=the-secret"}),
        ("http_requests", {"ClientRequestReferer": "https://u:the-secret@h.example/"}),
        ("http_requests", {"RequestHeaders": {"cf-access-jwt-assertion": "the-secret"}}),
        ("http_requests", {"Cookies": {"sid": "the-secret"}, "RayID": "a"}),
    ],
)
def test_secrets_in_texts_with_json_and_in_addresses_are_masked_before_storage(
    dataset: str, value: dict[str, Any]
) -> None:
    read = reader(dataset).read([orjson.dumps(value)])

    assert b"the-secret" not in read.records.text


def test_what_a_pushed_token_is_called_is_no_secret() -> None:
    row = {"AuditLogID": "a", "ActorTokenDetails": {"TokenID": "t1", "TokenName": "ci token"}}
    read = reader("audit_logs_v2").read([orjson.dumps(row)])
    found = normalise_pushed_activity(row, ORIGIN, "0" * 32, NOON_US)

    assert orjson.loads(read.records.text) == [row]
    assert (found.token_id, found.token_name) == ("t1", "ci token")


def test_a_request_that_was_stored_before_its_address_was_masked_shows_nothing() -> None:
    row = {
        **ROWS["logpush_http_requests"]["request"],
        "ClientRequestURI": "/x?access_token=the-secret",
    }
    found = event_of("logpush_http_requests", row)

    assert isinstance(found, Traffic)
    assert "the-secret" not in repr(found)


def test_a_login_with_a_unix_time_has_a_time() -> None:
    row = {**pushed(next(iter(LOGINS.values()))), "CreatedAt": NOON_US * 1000}
    login = normalise_pushed_login(row, ORIGIN, "0" * 32, NOON_US)

    assert login.created_at == "2023-05-25T07:33:20.123456Z"
    assert "time" not in login.quality


def test_a_withheld_stream_gives_no_events_and_counts_as_filtered() -> None:
    page = page_of("access_requests", list(LOGINS.values()))
    key = StreamKey(page.account_id, page.stream)
    open_, closed = (
        Pipeline(CimFormat(FormatConfig()), NORMALISERS, ACCOUNTS, names=names)(page)
        for names in ({}, {key: ""})
    )

    assert len(open_.events) == page.count
    assert ((), page.end_offset, page.count) == (closed.events, closed.end_offset, closed.filtered)
