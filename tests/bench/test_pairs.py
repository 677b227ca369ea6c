"""Two checkouts are compared pair by pair."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import pairs
from bench.processes import Usage
from bench.scenarios import COMPARED, DRAINED, Result


def _run(cpu_us: float, peak_mib: int, rate: float) -> Result:
    return Result(rate, 1000, Usage(cpu_us / 1e3, peak_mib << 20, 0))


def test_a_line_has_medians_and_the_ratio_of_each_pair() -> None:
    """The ratio is the median of the pairs' ratios: what slows a whole pair does not count."""
    compared = pairs.Comparison(
        "hec",
        [
            (_run(11, 100, 50), _run(10, 50, 100)),
            (_run(40, 100, 50), _run(20, 50, 100)),
            (_run(12, 100, 50), _run(10, 50, 100)),
        ],
    )

    assert compared.ratios() == pytest.approx([1.1, 2.0, 1.2])
    assert compared.line() == (
        "| hec | 12.0 | 10.0 | 1.20 | 100 | 50 | 2.00 | 50 | 100 | 0.50 | 1.10 2.00 1.20 |"
    )
    assert {row.count("|") for row in [*pairs.HEAD.splitlines(), compared.line()]} == {12}


def test_catch_ups_and_drains_can_be_compared() -> None:
    names = [*COMPARED, *(f"drain-{kind}" for kind in DRAINED), *pairs.USUAL]

    assert all(map(pairs.known, names))
    assert not any(map(pairs.known, ("trickle", "drain-stdout", "drain")))


def test_a_checkout_without_an_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"\.venv/bin/forwarder does not exist"):
        pairs.program(tmp_path)
