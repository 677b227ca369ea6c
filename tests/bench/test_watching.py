"""A rate is counted between looks that saw some events and not all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.watching import growth, until


def test_start_and_end_do_not_matter() -> None:
    looks = [(0.0, 0), (10.0, 100), (11.0, 300), (12.0, 500), (19.0, 510)]

    assert growth(looks) == 200.0


def test_few_looks_count_from_the_last_that_saw_nothing() -> None:
    assert growth([(1.0, 0), (3.0, 500)]) == 250.0


@given(
    pace=st.integers(1, 10_000),
    times=st.lists(st.integers(1, 10_000), min_size=2, max_size=20, unique=True),
)
def test_an_even_pace_is_found_whenever_one_looks(pace: int, times: list[int]) -> None:
    looks = [(0.0, 0), *((float(time), pace * time) for time in sorted(times))]

    assert growth(looks) == pytest.approx(pace)


def test_looking_ends_when_all_have_come() -> None:
    numbers = iter([0, 0, 7, 10])

    assert until(10, lambda: next(numbers)) > 0
    assert list(numbers) == []
