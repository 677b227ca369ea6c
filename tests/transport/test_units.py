"""Durations and sizes: what is written comes back, and is read by people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.transport.settings import (
    WrittenFloat,
    WrittenInt,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@given(st.integers(0, 10**12))
def test_a_duration_comes_back_as_it_was_written(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(1, 10**12))
def test_a_time_that_has_passed_is_the_same_with_a_sign(milliseconds: int) -> None:
    seconds = milliseconds / 1000

    assert format_duration(-seconds) == f"-{format_duration(seconds)}"


@pytest.mark.parametrize("seconds", [0.0, -0.0, 0.0001, -0.0001])
def test_nothing_is_nothing(seconds: float) -> None:
    assert format_duration(seconds) == "0s"


@given(st.integers(0, 2**50))
def test_a_size_comes_back_as_it_was_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("number", ["24", "1.5", WrittenInt(24), WrittenFloat(1.5)])
def test_a_number_of_a_settings_file_needs_its_unit(number: object) -> None:
    """`retention: 24` could mean hours; code passes plain numbers in seconds and bytes."""
    with pytest.raises(ValueError, match=rf"has no unit; write for example {number}s, {number}m"):
        parse_duration(number)
    with pytest.raises(ValueError, match=rf"has no unit; write for example {number}B, {number}Mi"):
        parse_size(number)

    assert (parse_duration(24), parse_size(24)) == (24.0, 24)


@pytest.mark.parametrize("digits", ["٣", "³", "9" * 400])
def test_only_plain_digits_of_a_sane_number_are_understood(digits: str) -> None:
    """The schema that editors and the chart check with knows no others."""
    for parse, unit in ((parse_duration, "d"), (parse_size, "MiB")):
        with pytest.raises(ValueError, match="write for example"):
            parse(digits + unit)
        with pytest.raises(ValueError, match="write for example"):
            parse(digits)
    with pytest.raises(ValueError, match="has no unit"):
        parse_duration(WrittenInt(10**400))


@pytest.mark.parametrize("nothing", ["0", 0, WrittenInt(0), WrittenFloat(0)])
def test_zero_needs_no_unit(nothing: object) -> None:
    assert (parse_duration(nothing), parse_size(nothing)) == (0.0, 0)
