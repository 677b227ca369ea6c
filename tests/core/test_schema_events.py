"""Own rows become events; JSON comes out of anything."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import StreamKey
from forwarder.core.identity import TOO_DEEP, Identifier, dumps, members
from forwarder.core.own_events import Own, normalise_own, own_row
from forwarder.core.schema import Origin

_ORIGIN = Origin("", "", "forwarder", 1_000_000)
_KEY = StreamKey("a" * 32, "access_requests")


def test_an_own_row_leaves_out_what_has_no_value() -> None:
    assert own_row(Own.START, 0, version="1.0") == {
        "event": "start",
        "time": "1970-01-01T00:00:00.000000Z",
        "version": "1.0",
    }


def test_an_own_row_of_a_stream_names_account_and_range() -> None:
    row = own_row(
        Own.GAP_OPENED,
        5_000_000,
        stream=_KEY,
        account="acme",
        reason="retention",
        since_us=0,
        until_us=1_000_000,
        rows=0,
    )

    event = normalise_own(row, _ORIGIN, "0" * 32, 5_000_000)

    assert event.action == "gap_opened"
    assert event.outcome == "failure"
    assert (event.about_stream, event.origin.account, event.rows) == ("access_requests", "acme", 0)
    assert (event.since, event.until) == (
        "1970-01-01T00:00:00.000000Z",
        "1970-01-01T00:00:01.000000Z",
    )


@pytest.mark.parametrize("kind", list(Own))
def test_each_own_event_has_an_outcome(kind: Own) -> None:
    event = normalise_own(own_row(kind, 0), _ORIGIN, "0" * 32, 0)

    assert event.outcome in {"success", "failure"}
    assert event.quality == ()


@pytest.mark.parametrize(
    ("row", "quality"),
    [({}, ("event",)), ({"event": 1}, ("event",)), ({"_forwarder_malformed": "x"}, ("malformed",))],
)
def test_a_row_that_is_none_of_ours_says_so(row: dict[str, Any], quality: tuple[str, ...]) -> None:
    assert normalise_own(row, _ORIGIN, "0" * 32, 0).quality == quality


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


@given(_anything)
def test_json_comes_out_of_anything(value: Any) -> None:
    orjson.loads(dumps(value))


@given(st.recursive(st.none() | st.booleans() | st.text(), st.lists))
def test_json_of_json_is_itself(value: Any) -> None:
    assert orjson.loads(dumps(value)) == value


def test_depth_is_cut() -> None:
    nested: Any = "bottom"
    for _ in range(500):
        nested = [nested]

    text = dumps(nested).decode()

    assert TOO_DEEP in text
    assert "bottom" not in text


def test_members_are_an_object_without_braces() -> None:
    assert members({}) == ""
    assert members({"a": 1, "b": [2]}) == '"a":1,"b":[2]'


def test_a_page_of_lines_takes_hardly_more_memory_than_it_has_bytes() -> None:
    row = {"user_email": "a" * 600}
    tracemalloc.start()
    try:
        lines = [dumps(row) for _ in range(100)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 1.5 * sum(map(len, lines))


def test_a_page_of_rows_is_identified_in_the_memory_of_one_row_at_a_time() -> None:
    rows = [{"user_email": "a" * 600, "ray_id": str(number)} for number in range(200)]
    identifier = Identifier("a" * 32, "access_requests")
    tracemalloc.start()
    try:
        identifier.identified(rows)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 200 * 600
