"""``python -m bench``: measure, print one table, write docs/performance.md.

The daemon runs on one core, everything else on the others. Quote ratios: absolute figures differ
between machines.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from bench import others, report
from bench.calibration import calibrate
from bench.processes import helper
from bench.rows import rows
from bench.scenarios import CATCH_UP, SINKS, Scenario, catch_up, floor

_PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_OTHERS = ("drain", "start-up", "trickle", "quiet", "help")


def main() -> None:
    """Measure the chosen scenarios; write the page only when all were chosen."""
    names = [one.name for one in CATCH_UP]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=", ".join([*names, *_OTHERS]))
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a catch-up")
    parser.add_argument("--start-up-rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5, help="runs, of which medians are quoted")
    parser.add_argument("--seconds", type=int, default=60, help="of trickle and idling")
    chosen = parser.parse_args()
    wanted = chosen.scenarios or [*names, *_OTHERS]
    found = report.Report(calibrate(), chosen.rows, chosen.runs)
    _catch_ups(found, [one for one in CATCH_UP if one.name in wanted], chosen)
    _others(found, wanted, chosen)
    if not chosen.scenarios:
        _PAGE.write_text(found.page(), encoding="utf-8")


def _catch_ups(found: report.Report, scenarios: list[Scenario], chosen: argparse.Namespace) -> None:
    if not scenarios:
        return
    sample = [len(text) for _, text in rows(1000, 2_000_000_000_000_000)]
    raw_bytes = sum(sample) / len(sample)
    with helper("bench.cloudflare", str(chosen.rows)) as api:
        for scenario in scenarios:
            runs = [catch_up(scenario, chosen.rows, api) for _ in range(chosen.runs)]
            floors = [
                floor(scenario.name, chosen.rows, api)
                for _ in range(chosen.runs if scenario.name in SINKS else 0)
            ]
            bare = (median(f[0] for f in floors), median(f[1] for f in floors)) if floors else None
            found.add(report.Row.of(scenario.name, runs, raw_bytes, bare))


def _others(found: report.Report, wanted: list[str], chosen: argparse.Namespace) -> None:
    if "drain" in wanted:
        with helper("bench.cloudflare", str(chosen.rows)) as api:
            found.note("drain of a full journal into HEC", others.drain(chosen.rows, api))
    if "start-up" in wanted:
        with helper("bench.cloudflare", str(chosen.start_up_rows)) as api:
            figures = others.start_up(chosen.start_up_rows, api)
            found.note("start to the first poll, full journal", figures)
    if "trickle" in wanted:
        figures = others.trickle(chosen.seconds)
        found.note("shown to stdout, 50 rows/s, poll_interval 1s", figures)
    if "quiet" in wanted:
        found.note(
            "200 quiet accounts, poll_interval 60s", others.quiet(200, chosen.seconds, "60s")
        )
        found.note("1 quiet account, poll_interval 10s", others.quiet(1, chosen.seconds, "10s"))
    if "help" in wanted:
        found.note("forwarder --help", others.import_ms(chosen.runs))


if __name__ == "__main__":
    main()
