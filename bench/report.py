"""The table, as it grows on the terminal and as the page docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.calibration import Machine
from bench.scenarios import Result

_HEAD = (
    "| catch-up into | events/s | CPU us/event | peak MiB | bytes written / raw byte | "
    "bare client events/s | share of bare |\n|---|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one scenario; ``bare`` is events/s and CPU us/event of the bare client."""

    name: str
    rate: float
    cpu_us: float
    peak_mib: float
    written: float
    bare: tuple[float, float] | None

    @classmethod
    def of(
        cls,
        name: str,
        runs: Sequence[Result],
        raw_bytes: float,
        bare: tuple[float, float] | None,
    ) -> Row:
        """Take the medians, and the worst peak."""
        return cls(
            name,
            median(run.rate for run in runs),
            median(run.cpu_us for run in runs),
            max(run.usage.peak for run in runs) / 2**20,
            median(run.usage.written / run.events for run in runs) / raw_bytes,
            bare,
        )

    def line(self) -> str:
        """Return the row as Markdown."""
        bare = "| |" if self.bare is None else f"{self.bare[0]:,.0f} | {self._share():.0%} |"
        return (
            f"| {self.name} | {self.rate:,.0f} | {self.cpu_us:.1f} | {self.peak_mib:.0f} | "
            f"{self.written:.2f} | {bare}"
        )

    def _share(self) -> float:
        return self.rate / self.bare[0] if self.bare else 0.0


@dataclass(slots=True)
class Report:
    """Everything that was measured in one run."""

    machine: Machine
    rows_a_run: int
    runs: int
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a catch-up and print it."""
        if not self.rows:
            print(_HEAD)
        self.rows.append(row)
        print(row.line(), flush=True)

    def note(self, name: str, figures: Mapping[str, float]) -> None:
        """Add another scenario and print it."""
        text = ", ".join(f"{key} {value:,.3f}" for key, value in figures.items())
        self.notes.append(f"| {name} | {text} |")
        print(self.notes[-1], flush=True)

    def page(self) -> str:
        """Return docs/performance.md."""
        machine = self.machine
        return "\n".join(
            [
                "# Performance",
                "",
                "Written by `make bench`; nothing here is typed in by hand. Compare ratios within",
                "one run, not seconds between machines.",
                "",
                f"- {machine.cores} cores, {machine.cpu}, {machine.python}",
                f"- one `orjson` round trip of a three-key row: {machine.round_trip_us:.2f} us",
                f"- {self.rows_a_run:,} rows a run, medians of {self.runs} runs",
                "- the daemon on one core, the API and the destinations on the others",
                "- default settings but `rate_limit: off`",
                "- events/s from the first delivered event, CPU from the start of the process",
                "- the bare client reads the same pages and hands the same number of raw rows to",
                "  the same destination: no journal, no identity, no mapping",
                "",
                _HEAD,
                *(row.line() for row in self.rows),
                "",
                "| other scenarios | |",
                "|---|---|",
                *self.notes,
                "",
            ]
        )
