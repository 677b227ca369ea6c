"""The page says what was measured, what it should be, and whether it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bench import report
from bench.calibration import Machine
from bench.figures import SINGLE, Figure, Flow, Found, Target
from bench.processes import Usage
from bench.scenarios import DRAINED, SCENARIOS, Bare, Result

FLOW = Flow("hec", 41_000.0, 20.0, 120.0, 800.0, 82_000.0, 8.0, 0.5)


def _found() -> Found:
    return Found(
        Machine("a processor", 2, "CPython 3.11", 0.5, 0.1),
        commit="0123456789ab",
        began="2026-01-01",
        rows=1_000_000,
        runs=5,
        seconds=60.0,
        raw_bytes=400.0,
        minutes=61.4,
        flows=[replace(FLOW, name=name) for name in SCENARIOS],
        drains=[replace(FLOW, name=name) for name in DRAINED],
        single=[Figure(*name, 1234.5, "ms") for name in SINGLE],
        event_bytes={"hec": 1300.0},
    )


def test_the_page_is_what_the_last_measurement_gives() -> None:
    """A change of the words or tables takes `make bench ARGS=--page`, and no measuring."""
    assert report.PAGE.read_text() == report.page(Found.load(report.FIGURES))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    _found().save(tmp_path / "figures.json")

    assert _found() == Found.load(tmp_path / "figures.json")


def test_the_page_names_rows_runs_commit_and_machine() -> None:
    page = report.page(_found())

    for said in ("1,000,000 rows", "scenario: 5;", "0123456789ab", "61 minutes", "a processor"):
        assert said in page


def test_a_figure_stands_beside_its_target() -> None:
    line = report.flow_line(FLOW, 400.0)

    assert "41,000 (≥ 40,000: met)" in line
    assert "39,999 (≥ 40,000: short)" in report.flow_line(replace(FLOW, rate=39_999.0), 400.0)
    assert "120 (≤ 150: met)" in line
    assert "50% (≥ 40%: met)" in report.drain_line(FLOW)


def test_every_row_has_a_cell_for_each_column() -> None:
    found = _found()
    tables = {
        report.FLOW_HEAD: [report.flow_line(one, 400.0) for one in found.flows],
        report.DRAIN_HEAD: [report.drain_line(one) for one in found.drains],
        report.SINGLE_HEAD: [report.single_line(one) for one in found.single],
    }

    for head, lines in tables.items():
        columns = {line.count("|") for line in [*head.splitlines(), *lines]}
        assert len(columns) == 1


def test_medians_are_quoted_and_the_worst_peak() -> None:
    runs = [
        (Result(rate, 1000, Usage(rate / 1e6, peak << 20, 400_000)), Bare(2 * rate, 1.0))
        for rate, peak in ((100.0, 1), (300.0, 3), (200.0, 2))
    ]
    flow = Flow.of("hec", runs)

    assert flow == Flow("hec", 200.0, 0.2, 3.0, 400.0, 400.0, 1.0, 0.5)


@given(bound=st.floats(0, 1e6), value=st.floats(0, 1e6))
def test_a_target_is_met_on_its_side_and_at_its_bound(bound: float, value: float) -> None:
    assert Target(bound).met(value) == (value <= bound)
    assert Target(bound, at_least=True).met(value) == (value >= bound)
