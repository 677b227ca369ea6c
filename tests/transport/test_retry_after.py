"""``Retry-After`` is read in both its forms and never trusted beyond an hour."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.transport.http import parse_retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 2.5 ", 2.5),
        ("999999", 3600.0),
        (format_datetime(NOW.replace(minute=2), usegmt=True), 120.0),
        (format_datetime(NOW.replace(hour=11), usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("NaN", None),
    ],
)
def test_both_forms(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, NOW_US) == expected


@given(st.text())
def test_any_text_gives_a_bounded_wait_or_none(value: str) -> None:
    wait = parse_retry_after(value, NOW_US)

    assert wait is None or 0.0 <= wait <= 3600.0
