"""``python -m bench``: measure, print tables, write docs/performance.md.

The daemon runs on one core, everything else on the others. Quote ratios: absolute figures differ
between machines. The page is written when all scenarios were measured, and by --page. With
--against, two checkouts are measured in turns and nothing is written.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import others, pairs, report
from bench.calibration import calibrate
from bench.clients import SILENT
from bench.figures import Figure, Flow, Found
from bench.processes import helper
from bench.recordings import Recording
from bench.rows import rows
from bench.scenarios import DRAINED, SCENARIOS, bare, catch_up, drain, full_journal, start_cpu
from bench.stages import WITHOUT_SERVER, record

_OTHERS = ("drain", "alone", "memory", "trickle", "quiet", "start-up", "help")
_SAMPLE = 1000
_LONGER = 5


class Bench:
    """One run of some scenarios."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        """Describe the machine before anything runs."""
        sample = [len(text) for _, text in rows(_SAMPLE, 2_000_000_000_000_000)]
        self._names: list[str] = chosen.scenarios or [*SCENARIOS, *_OTHERS]
        self._start_up_rows: int = chosen.start_up_rows
        self._recordings: dict[str, Recording] = {}
        self._began = time.monotonic()
        self.found = Found(
            calibrate(),
            _commit(),
            datetime.now(UTC).strftime("%Y-%m-%d"),
            chosen.rows,
            chosen.runs,
            chosen.seconds,
            sum(sample) / _SAMPLE,
        )

    def measure(self) -> Found:
        """Measure everything that was chosen and print it as it comes."""
        self._record()
        with helper("bench.cloudflare", str(self.found.rows)) as api:
            self._catch_ups(api)
            self._drains(api)
        self._singles()
        self.found.minutes = (time.monotonic() - self._began) / 60
        return self.found

    def _record(self) -> None:
        """Let the daemon send into every kind that a bare client needs."""
        wanted = [kind for name in self._names for kind in SCENARIOS.get(name, ())]
        if "drain" in self._names:
            wanted += DRAINED
        if "alone" in self._names:
            wanted += [kind for kinds in SCENARIOS.values() for kind in kinds]
        for kind in dict.fromkeys(wanted):
            if kind not in SILENT:
                self._recordings[kind] = record(kind)
                self.found.event_bytes[kind] = self._recordings[kind].event_bytes

    def _catch_ups(self, api: int) -> None:
        count, runs = self.found.rows, self.found.runs
        names = [name for name in SCENARIOS if name in self._names]
        if names:
            print(report.FLOW_HEAD)
        for name in names:
            start = start_cpu(SCENARIOS[name], api)
            pairs = [
                (catch_up(name, count, api, start), bare(name, count, api, self._recordings))
                for _ in range(runs)
            ]
            self.found.flows.append(Flow.of(name, pairs))
            print(report.flow_line(self.found.flows[-1], self.found.raw_bytes), flush=True)

    def _drains(self, api: int) -> None:
        if "drain" not in self._names:
            return
        count, runs = self.found.rows, self.found.runs
        start = start_cpu(DRAINED, api)
        print(report.DRAIN_HEAD)
        with full_journal(DRAINED, count, api) as state:
            for kind in DRAINED:
                pairs = [
                    (
                        drain(kind, count, state, start),
                        bare(kind, count, api, self._recordings, ready=True),
                    )
                    for _ in range(runs)
                ]
                self.found.drains.append(Flow.of(kind, pairs))
                print(report.drain_line(self.found.drains[-1]), flush=True)

    def _singles(self) -> None:
        seconds, runs = self.found.seconds, self.found.runs
        measures: dict[str, list[Callable[[], list[Figure]]]] = {
            "alone": [self._alone],
            "memory": [self._memory],
            "trickle": [lambda: others.trickle(seconds)],
            "quiet": [
                lambda: others.quiet(200, seconds, "60s"),
                lambda: others.quiet(1, seconds, "60s"),
            ],
            "start-up": [
                lambda: others.start_up(self._start_up_rows, runs),
                lambda: others.start_up_empty(runs),
            ],
            "help": [lambda: others.help_text(runs)],
        }
        wanted = [one for name in measures if name in self._names for one in measures[name]]
        if wanted:
            print(report.SINGLE_HEAD)
        for one in wanted:
            for figure in one():
                self.found.single.append(figure)
                print(report.single_line(figure), flush=True)

    def _alone(self) -> list[Figure]:
        """Measure the API and each destination with a client that hardly does anything, once."""
        count, kept = self.found.rows, self._recordings
        with helper("bench.cloudflare", str(count)) as api:
            found = [Figure("alone", "API", bare("api", count, api, {}).rate, "events/s")]
            for kind in (kind for kind in kept if kind not in WITHOUT_SERVER):
                sent = bare(kind, count, api, kept, ready=True).rate
                found.append(Figure("alone", f"{kind}, ready bytes", sent, "events/s"))
        return found

    def _memory(self) -> list[Figure]:
        count = self.found.rows * _LONGER
        with helper("bench.cloudflare", str(count)) as api:
            peak = catch_up("hec", count, api, 0.0).usage.peak / 2**20
        return [Figure(f"hec with {count:,} rows", "peak memory", peak, "MiB")]


def _commit() -> str:
    """Return the commit that is measured, and whether the code differs from it."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "forwarder", "bench")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} with changes" if changed else name


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=report.ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _compare(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    """Print each scenario's comparison as it comes."""
    if unknown := [name for name in chosen.scenarios if not pairs.known(name)]:
        parser.error(f"cannot be compared: {', '.join(unknown)}")
    try:
        other = pairs.program(chosen.against)
    except FileNotFoundError as error:
        parser.error(str(error))
    print(f"{_commit()} beside {chosen.against}: {chosen.rows:,} rows, {chosen.runs} pairs")
    print(pairs.HEAD, flush=True)
    for comparison in pairs.compare(chosen.scenarios, chosen.rows, chosen.runs, other):
        print(comparison.line(), flush=True)


def main() -> None:
    """Measure the chosen scenarios; write the page only when all were chosen."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=", ".join([*SCENARIOS, *_OTHERS]))
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a catch-up")
    parser.add_argument("--start-up-rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5, help="runs, of which medians are quoted")
    parser.add_argument("--seconds", type=float, default=60, help="of trickle and idling")
    parser.add_argument("--page", action="store_true", help="rewrite the page, measure nothing")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="compare with another checkout that has its own .venv; without scenarios: "
        + ", ".join(pairs.USUAL)
        + "; scim-hec is SCIM changes into HEC",
    )
    chosen = parser.parse_args()
    if chosen.rows % 1000 or chosen.start_up_rows % 1000:
        parser.error("rows come in thousands")
    if chosen.against:
        _compare(parser, chosen)
        return
    if unknown := set(chosen.scenarios) - {*SCENARIOS, *_OTHERS}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if not chosen.page:
        found = Bench(chosen).measure()
        if not chosen.scenarios:
            found.save(report.FIGURES)
    if chosen.page or not chosen.scenarios:
        report.PAGE.write_text(report.page(Found.load(report.FIGURES)), encoding="utf-8")


if __name__ == "__main__":
    main()
