"""Nothing has become twice as slow, measured beside orjson in this very process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import ratios

ATTEMPTS = 6


@pytest.mark.timeout(600)
def test_no_ratio_has_doubled() -> None:
    """What a row costs on its way in and out, in multiples of parsing and writing it."""
    found = ratios.slower(ATTEMPTS)

    assert found == {}, f"of what was recorded, {ratios.RECORDED}, these have doubled"


def _attempts(*figures: float) -> Iterator[dict[str, float]]:
    for figure in figures:
        yield dict.fromkeys(ratios.RECORDED, 1.0) | {"raw": figure}


def test_one_good_attempt_is_enough() -> None:
    """A busy machine adds to a figure and never takes from it."""
    attempts = _attempts(9.0, 8.0, ratios.RECORDED["raw"])

    assert ratios.slower(3, lambda: next(attempts)) == {}


def test_what_stays_slow_is_named_with_its_best() -> None:
    attempts = _attempts(9.0, 8.0, 8.5)

    assert ratios.slower(3, lambda: next(attempts)) == {"raw": 8.0}
