"""Windows, pages and filters agree with a search that reads every row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import orjson
from hypothesis import given
from hypothesis import settings as examples
from multidict import MultiDict

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    SCIM_UPDATES,
    ManualClock,
    SimulatorSettings,
)
from forwarder.simulator.cloud import Cloud
from forwarder.simulator.exchange import ApiRequest, answer
from forwarder.simulator.rows import format_moment, parse_moment

NOON = 1_790_000_000
TIME_KEYS = {ACCESS_REQUESTS: "created_at", SCIM_UPDATES: "logged_at"}
Row = dict[str, Any]


def cloud_of(rate: float, seconds: int) -> Cloud:
    settings = SimulatorSettings(rate=rate, scim_rate=rate, history=seconds, require_idp_id=False)
    cloud = Cloud(settings, clock=ManualClock(NOON))
    cloud.advance()
    return cloud


FULL = cloud_of(rate=5, seconds=60)
EDGES = st.none() | st.integers((NOON - 65) * 1_000_000, (NOON + 5) * 1_000_000)


def ask(cloud: Cloud, stream: str, params: MultiDict[str]) -> list[Row]:
    headers = {"Authorization": f"Bearer {DEFAULT_TOKEN}"}
    reply = answer(cloud, ApiRequest(stream, DEFAULT_ACCOUNT, "/", params, headers))
    rows: list[Row] = orjson.loads(reply.body)["result"]
    return rows


def read_whole(stream: str, *params: tuple[str, str], size: int = 1000) -> list[Row]:
    """Read page after page up to the first empty one."""
    rows: list[Row] = []
    page = 1
    while True:
        paged = MultiDict([*params, ("page", str(page)), ("per_page", str(size))])
        found = ask(FULL, stream, paged)
        if not found:
            return rows
        rows += found
        page += 1


ALL = {stream: read_whole(stream, ("direction", "asc")) for stream in TIME_KEYS}


def time_of(stream: str, row: Row) -> int:
    return parse_moment(row[TIME_KEYS[stream]])


@given(
    stream=st.sampled_from([ACCESS_REQUESTS, SCIM_UPDATES]),
    since=EDGES,
    until=EDGES,
    direction=st.sampled_from(["asc", "desc"]),
    size=st.integers(7, 1000),
)
def test_the_pages_of_a_window_are_the_rows_within_it_in_order(
    stream: str, since: int | None, until: int | None, direction: str, size: int
) -> None:
    edges = (("since", since), ("until", until))
    params = [(name, format_moment(edge)) for name, edge in edges if edge is not None]

    found = read_whole(stream, ("direction", direction), *params, size=size)

    naive = [
        row
        for row in ALL[stream]
        if (since is None or since <= time_of(stream, row))
        and (until is None or time_of(stream, row) <= until)
    ]
    assert found == (naive if direction == "asc" else naive[::-1])


def test_the_rows_are_those_of_the_whole_history_in_the_order_of_time() -> None:
    for stream, rows in ALL.items():
        times = [time_of(stream, row) for row in rows]
        assert times == sorted(times)
        assert len(rows) > 150


def drawn(stream: str, key: str) -> st.SearchStrategy[str]:
    values = sorted({str(row[key]) for row in ALL[stream] if row.get(key)})
    return st.sampled_from(values) | st.just("no such value")


def comparable(row: Row, name: str) -> Any:
    match name:
        case "country_code":
            return (row.get("country") or "").upper()
        case "idp":
            return row.get("connection")
        case "non_identity":
            return str(row.get("connection") == "nonidentity").lower()
        case "allowed":
            return str(row.get("allowed")).lower()
        case _:
            return row.get(name)


@st.composite
def single_filters(draw: st.DrawFn) -> tuple[str, str, str | None]:
    name = draw(
        st.sampled_from(
            ["allowed", "app_type", "app_uid", "country_code", "idp", "non_identity", "ray_id"]
        )
    )
    if name in ("allowed", "non_identity"):
        value = draw(st.sampled_from(["true", "false"]))
    else:
        key = {"country_code": "country", "idp": "connection"}.get(name, name)
        value = draw(drawn(ACCESS_REQUESTS, key))
    return name, value, draw(st.sampled_from([None, "eq", "neq"]))


@examples(max_examples=60)
@given(st.lists(single_filters(), max_size=3, unique_by=lambda chosen: chosen[0]))
def test_access_filters_all_apply_with_their_operators(
    chosen: list[tuple[str, str, str | None]],
) -> None:
    values = [(name, value) for name, value, _ in chosen]
    operators = [(f"{name}Op", operator) for name, _, operator in chosen if operator]

    found = read_whole(ACCESS_REQUESTS, ("direction", "asc"), *values, *operators)

    def fits(row: Row) -> bool:
        return all(
            (comparable(row, name) == (value.upper() if name == "country_code" else value))
            is (operator != "neq")
            for name, value, operator in chosen
        )

    assert found == [row for row in ALL[ACCESS_REQUESTS] if fits(row)]


EMAIL_TESTS: dict[tuple[str | None, str | None], Callable[[str | None, str], bool]] = {
    (None, None): lambda email, text: text in (email or ""),
    ("contains", None): lambda email, text: text in (email or ""),
    ("contains", "true"): lambda email, text: email == text,
    (None, "true"): lambda email, text: email == text,
    ("eq", None): lambda email, text: email == text,
    ("neq", None): lambda email, text: email != text,
    ("neq", "true"): lambda email, text: email != text,
    ("eq", "false"): lambda email, text: email == text,
}


@examples(max_examples=60)
@given(
    st.sampled_from(list(EMAIL_TESTS)),
    drawn(ACCESS_REQUESTS, "user_email") | st.sampled_from(["e", "@", "E", "a."]),
)
def test_an_address_is_a_part_unless_asked_to_be_exact(
    mode: tuple[str | None, str | None], text: str
) -> None:
    params = [("email", text)]
    params += [("emailOp", mode[0])] if mode[0] else []
    params += [("email_exact", mode[1])] if mode[1] else []

    found = read_whole(ACCESS_REQUESTS, ("direction", "asc"), *params)

    test = EMAIL_TESTS[mode]
    assert found == [row for row in ALL[ACCESS_REQUESTS] if test(row.get("user_email"), text)]


def test_a_users_id_is_accepted_and_no_longer_applied() -> None:
    found = read_whole(
        ACCESS_REQUESTS, ("direction", "asc"), ("user_id", "nobody"), ("user_idOp", "eq")
    )

    assert found == ALL[ACCESS_REQUESTS]


def test_a_provider_can_be_named_by_its_id() -> None:
    okta = FULL.directory(DEFAULT_ACCOUNT).listed()[0]

    found = read_whole(ACCESS_REQUESTS, ("direction", "asc"), ("idp", okta.id))

    assert found == [row for row in ALL[ACCESS_REQUESTS] if row.get("connection") == "okta"]
    assert found


SCIM_KEYS = (
    "idp_id", "status", "resource_type", "request_method", "resource_user_email",
    "resource_group_name", "cf_resource_id", "idp_resource_id",
)  # fmt: skip
SCIM_ENUMERATIONS = {
    "status": ["SUCCESS", "FAILURE"],
    "resource_type": ["USER", "GROUP"],
    "request_method": ["POST", "PUT", "PATCH", "DELETE"],
    "idp_id": [one.id for one in FULL.directory(DEFAULT_ACCOUNT).listed()],
}


@st.composite
def array_filters(draw: st.DrawFn) -> tuple[str, list[str]]:
    name = draw(st.sampled_from(SCIM_KEYS))
    known = SCIM_ENUMERATIONS.get(name)
    values = drawn(SCIM_UPDATES, name) if known is None else st.sampled_from(known)
    return name, draw(st.lists(values, min_size=1, max_size=3))


@examples(max_examples=60)
@given(st.lists(array_filters(), max_size=3, unique_by=lambda chosen: chosen[0]))
def test_scim_filters_take_any_of_their_values(chosen: list[tuple[str, list[str]]]) -> None:
    params = [(name, value) for name, values in chosen for value in values]

    found = read_whole(SCIM_UPDATES, ("direction", "asc"), *params)

    def value_of(row: Row, name: str) -> Any:
        method = row.get("request_method") or row.get("http_method")
        return method if name == "request_method" else row.get(name)

    assert found == [
        row
        for row in ALL[SCIM_UPDATES]
        if all(value_of(row, name) in values for name, values in chosen)
    ]
