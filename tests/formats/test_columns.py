"""A page read column by column says of each row what the row says when it is read alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.login import Origin, is_plain
from forwarder.core.schema import NOT_READ, Reading
from forwarder.testing.sample_events import NORMALISERS, SEEN_US
from forwarder.testing.sample_rows import ACCOUNT_ID, LOGIN, SCIM, SCIM_UPDATES
from tests.formats.strategies import (
    json_values,
    logins,
    scim_rows,
    texts,
    usual_changes,
    usual_logins,
)

_LOGINS, _CHANGES = "access_requests", "scim_updates"
_LIVE_ONLY = ("user_id", "country", "app_name", "app_type")
_TIME_US = 1_783_000_000_000_000


def _read(stream: str, rows: list[Any], *, plain: bool, bodies: bool = True) -> list[Reading]:
    origin = Origin(ACCOUNT_ID, "acme", stream, SEEN_US, plain)
    times_us = [_TIME_US] * len(rows)
    return list(NORMALISERS[stream].read_rows(rows, origin, times_us, bodies=bodies))


def _read_each(stream: str, rows: list[Any], *, plain: bool, bodies: bool = True) -> list[Reading]:
    return [reading for row in rows for reading in _read(stream, [row], plain=plain, bodies=bodies)]


def _is_plain(rows: list[dict[str, Any]]) -> bool:
    """Say what a page's origin may say of rows whose values are texts."""
    found = "".join(str(text) for row in rows for text in row.values())
    return is_plain(found) and found.isascii()


@st.composite
def _pages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Give pages of usual rows with the same keys, in which perhaps one value is odd."""
    rows = draw(st.lists(usual_logins, min_size=4, max_size=6))
    lacking = draw(st.sampled_from([(), _LIVE_ONLY, ("country",)]))
    rows = [{key: row[key] for key in row if key not in lacking} for row in rows]
    if draw(st.booleans()):
        key = draw(st.sampled_from([*LOGIN, "new_key"]))
        odd = st.one_of(st.just(None), texts, json_values, st.just("a\nb"), st.just("x" * 1000))
        draw(st.sampled_from(rows))[key] = draw(odd)
    return rows


@given(rows=_pages(), plain=st.booleans())
def test_a_page_of_logins_says_what_its_rows_say(
    rows: list[dict[str, Any]], *, plain: bool
) -> None:
    plain = plain and _is_plain(rows)

    assert _read(_LOGINS, rows, plain=plain) == _read_each(_LOGINS, rows, plain=plain)


@given(st.lists(logins, max_size=6))
def test_a_page_of_any_logins_does_so_too(rows: list[dict[str, Any]]) -> None:
    assert _read(_LOGINS, rows, plain=False) == _read_each(_LOGINS, rows, plain=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ip_address", "1.2.3.4\n1.2.3.4"),
        ("ip_address", "1.2.3.256"),
        ("ip_address", "1:2:3:4:5:6:7:8:9"),
        ("ip_address", "1:2:3::4:5:6:7:8:9"),
        ("ip_address", "::ffff:1.2.3.4"),
        ("user_email", "a@example.com\nb@example.com"),
        ("user_email", "0123456789abcdef0123456789abcdef.access"),
        ("user_email", "Ann"),
        ("user_email", "a" * 255),
        ("user_email", None),
        ("country", "de"),
        ("country", "Germany"),
        ("app_domain", "https://wiki.example.com"),
        ("app_domain", "wiki.example.com/"),
        ("app_domain", "/admin"),
        ("app_name", 7),
        ("app_name", "\u00e4" * 501),
        ("app_name", "x" * 1000),
        ("app_name", "a=b"),
        ("allowed", None),
        ("allowed", 1),
        ("created_at", ""),
    ],
)
def test_one_odd_value_is_seen_among_usual_ones(key: str, value: object) -> None:
    for lacking in ((), _LIVE_ONLY):
        if key in lacking:
            continue
        usual = {name: LOGIN[name] for name in LOGIN if name not in lacking}
        rows = [dict(usual) for _ in range(5)]
        rows[2][key] = value

        assert _read(_LOGINS, rows, plain=False) == _read_each(_LOGINS, rows, plain=False)


@st.composite
def _change_pages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Give pages of usual rows, with the same keys or not, in which perhaps one value is odd."""
    rows = draw(st.lists(usual_changes, min_size=4, max_size=6))
    if draw(st.booleans()):
        rows = [{**rows[0], **{key: row.get(key, "") for key in rows[0]}} for row in rows]
    if draw(st.booleans()):
        key = draw(st.sampled_from([*SCIM, "resource_type", "request_body", "new_key"]))
        odd = st.one_of(st.just(None), texts, json_values, st.just("a\nb"), st.just("x" * 1000))
        draw(st.sampled_from(rows))[key] = draw(odd)
    return rows


@given(rows=_change_pages(), bodies=st.booleans())
def test_a_page_of_changes_says_what_its_rows_say(
    rows: list[dict[str, Any]], *, bodies: bool
) -> None:
    for plain in {False, _is_plain(rows)}:
        page = _read(_CHANGES, rows, plain=plain, bodies=bodies)

        assert page == _read_each(_CHANGES, rows, plain=plain, bodies=bodies)


@given(rows=st.lists(scim_rows, max_size=6), bodies=st.booleans())
def test_a_page_of_any_changes_does_so_too(rows: list[dict[str, Any]], *, bodies: bool) -> None:
    page = _read(_CHANGES, rows, plain=False, bodies=bodies)

    assert page == _read_each(_CHANGES, rows, plain=False, bodies=bodies)


@pytest.mark.parametrize("bodies", [True, False])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("logged_at", ""),
        ("logged_at", None),
        ("resource_type", "group"),
        ("resource_user_email", "a" * 255),
        ("resource_user_email", "\u00e4" * 130),
        ("resource_user_email", "Ann"),
        ("resource_user_email", SCIM["cf_resource_id"]),
        ("resource_group_name", "a|b"),
        ("error_description", "x" * 1000),
        ("idp_id", 7),
        ("status", "pending"),
        ("http_method", "patch"),
        ("request_method", "PUT"),
        ("new_key", "new"),
        ("request_body", None),
        ("request_body", {"active": False}),
        ("request_body", '{"a":'),
        ("request_body", 'x"'),
        ("request_body", '{"Operations":[{"op":"add","path":"members","value":"m-1"}]}'),
        ("request_body", f'{{"password":"{"x" * 1000}"}}'),
    ],
)
def test_one_odd_value_is_seen_among_usual_changes(
    key: str, value: object, *, bodies: bool
) -> None:
    for name in ("scim_user_disable", "scim_group_add_member", "scim_user_update"):
        rows = [dict(SCIM_UPDATES[name]) for _ in range(5)]
        rows[2][key] = value
        page = _read(_CHANGES, rows, plain=False, bodies=bodies)

        assert page == _read_each(_CHANGES, rows, plain=False, bodies=bodies)


def test_a_page_whose_time_may_be_none_of_its_own_is_read_with_care() -> None:
    origin = Origin(ACCOUNT_ID, "acme", _LOGINS, SEEN_US)
    times_us = [_TIME_US, _TIME_US, _TIME_US, SEEN_US]

    readings = NORMALISERS[_LOGINS].read_rows([dict(LOGIN)] * 4, origin, times_us, bodies=True)

    assert [reading == NOT_READ for reading in readings] == [False, False, False, True]
