"""What was measured, as it is kept in docs/performance.json, and what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

import orjson

from bench.calibration import Machine
from bench.scenarios import Bare, Result


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach: at least, or at most."""

    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Return True if a figure is good enough."""
        return value >= self.bound if self.at_least else value <= self.bound


PEAK_MIB = Target(150)
PEAKS_MIB = {"lake-parquet": Target(200)}
"""Of scenarios that may use more memory than the others."""
RATES = {"hec": Target(40_000, at_least=True), "fan-out": Target(20_000, at_least=True)}
CPU_US = {"journal": Target(8.0)}
WRITTEN = {"journal": Target(2.0)}
DRAIN_RATE = Target(30_000, at_least=True)
DRAIN_SHARE = Target(0.40, at_least=True)
SINGLE = {
    ("200 quiet accounts, poll_interval 60s", "CPU, of a core"): Target(5.0),
    ("1 quiet account, poll_interval 60s", "CPU, of a core"): Target(0.3),
    ("start to first poll, journal of 10,000,000 rows", "median"): Target(1000.0),
    ("forwarder --help", "imports"): Target(150.0),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its unit."""

    scenario: str
    what: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Flow:
    """Medians of one scenario with many rows, beside the bare client; the peak is the worst.

    ``written`` is in bytes an event; ``share`` the median of the daemon's rate over the bare
    client's right behind it. Both clients None where there is none.
    """

    name: str
    rate: float
    cpu_us: float
    peak_mib: float
    written: float
    bare_rate: float
    bare_cpu_us: float
    share: float

    @classmethod
    def of(cls, name: str, pairs: Sequence[tuple[Result, Bare]]) -> Self:
        """Take the medians of pairs that ran one behind the other."""
        runs = [run for run, _ in pairs]
        return cls(
            name,
            median(run.rate for run in runs),
            median(run.cpu_us for run in runs),
            max(run.usage.peak for run in runs) / 2**20,
            median(run.usage.written / run.events for run in runs),
            median(bare.rate for _, bare in pairs),
            median(bare.cpu_us for _, bare in pairs),
            median(run.rate / bare.rate for run, bare in pairs),
        )


@dataclass(slots=True)
class Found:
    """Everything that one ``make bench`` found."""

    machine: Machine
    commit: str
    began: str
    rows: int
    runs: int
    seconds: float
    raw_bytes: float
    minutes: float = 0.0
    flows: list[Flow] = field(default_factory=list)
    drains: list[Flow] = field(default_factory=list)
    single: list[Figure] = field(default_factory=list)
    event_bytes: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        path.write_bytes(orjson.dumps(asdict(self), option=options))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        kept: dict[str, Any] = orjson.loads(path.read_bytes())
        kept["machine"] = Machine(**kept["machine"])
        kept["flows"] = [Flow(**one) for one in kept["flows"]]
        kept["drains"] = [Flow(**one) for one in kept["drains"]]
        kept["single"] = [Figure(**one) for one in kept["single"]]
        return cls(**kept)
