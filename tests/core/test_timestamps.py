"""Any RFC 3339 time is read to the microsecond; what is none is None."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.timing import format_seconds, format_us, parse_us, times_us

NEW_YEAR_US = 1_767_225_600_000_000
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001
zones = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-01-01T00:00:00Z", 0),
        ("2026-01-01t00:00:00z", 0),
        ("2026-01-01 00:00:00Z", 0),
        ("2026-01-01T00:00:00.9Z", 900_000),
        ("2026-01-01T00:00:00.12345Z", 123_450),
        ("2026-01-01T00:00:00.1234567899Z", 123_456),
        ("2026-01-01T01:30:00+01:30", 0),
        ("2025-12-31T19:00:00-05:00", 0),
        ("2025-12-31T23:59:60Z", 0),
        ("2025-12-31T23:59:60.5Z", 500_000),
    ],
)
def test_every_form_of_rfc_3339_is_read(text: str, micros: int) -> None:
    assert NEW_YEAR_US + micros == parse_us(text)


@pytest.mark.parametrize(
    "value",
    [
        None, 7, True, [], {}, "", "now", "2026-01-01", "2026-01-01T00:00:00",
        "1767225600000000000Z",
        "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:61Z", "0001-01-01T00:00:00+05:00", "2026-01-01T00:00:00Zulu",
        "9999-12-31T23:59:60Z", "9999-12-31T23:59:60.5-01:00",
    ],
)  # fmt: skip
def test_what_is_no_time_is_none(value: object) -> None:
    assert parse_us(value) is None


@given(moments, zones)
def test_any_zone_gives_the_same_instant(moment: datetime, zone: timezone) -> None:
    there = moment.replace(tzinfo=UTC).astimezone(zone)

    assert parse_us(there.isoformat()) == parse_us(moment.replace(tzinfo=UTC).isoformat())


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_what_is_written_is_read_again(time_us: int) -> None:
    assert time_us == parse_us(format_us(time_us))
    assert time_us // 1_000_000 * 1_000_000 == parse_us(format_seconds(time_us))


@given(st.lists(st.text(max_size=30) | st.none() | st.lists(st.integers(), max_size=1)))
def test_many_are_read_as_each_alone(values: list[object]) -> None:
    assert [parse_us(value) for value in values] == times_us(values)
