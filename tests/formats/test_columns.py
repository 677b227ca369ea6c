"""A page read column by column says of each row what the row says when it is read alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.origin import Origin, is_plain
from forwarder.core.schema import NOT_READ, Reading
from forwarder.testing.sample_events import NORMALISERS, SEEN_US
from forwarder.testing.sample_rows import ACCOUNT_ID, LOGIN
from tests.formats.strategies import json_values, logins, texts, usual_logins

_LOGINS = "access_requests"
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


def test_a_page_whose_time_may_be_none_of_its_own_is_read_with_care() -> None:
    origin = Origin(ACCOUNT_ID, "acme", _LOGINS, SEEN_US)
    times_us = [_TIME_US, _TIME_US, _TIME_US, SEEN_US]

    readings = NORMALISERS[_LOGINS].read_rows([dict(LOGIN)] * 4, origin, times_us, bodies=True)

    assert [reading == NOT_READ for reading in readings] == [False, False, False, True]
