"""Two checkouts measured in one run: ``python -m bench NAMES --against DIR``.

Their daemons take turns with the same API and the same destinations, all from this checkout, so a
ratio hardly depends on the machine or on what else runs there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.processes import OWN, helper
from bench.scenarios import (
    COMPARED,
    DRAINED,
    Result,
    catch_up,
    drain,
    full_journal,
    start_cpu,
)

USUAL = ("hec", "fan-out", "journal", "kafka", "drain-hec")
"""What is compared when no scenario is named."""

HEAD = (
    "| scenario | CPU µs/event | other | ratio | peak MiB | other | ratio "
    "| events/s | other | ratio | CPU ratio, each pair |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|"
)
_STARTS = 3
_DRAIN = "drain-"

Measure = Callable[[Path], Result]


_COLUMNS: tuple[tuple[Callable[[Result], float], int], ...] = (
    (lambda run: run.cpu_us, 1),
    (lambda run: run.usage.peak / 2**20, 0),
    (lambda run: run.rate, 0),
)
"""What is compared, with the decimals that are shown."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs of one scenario in pairs: this checkout, the other."""

    name: str
    pairs: Sequence[tuple[Result, Result]]

    def ratios(self) -> list[float]:
        """Return CPU per event over the other's, pair by pair."""
        return [own.cpu_us / other.cpu_us for own, other in self.pairs]

    def line(self) -> str:
        """Return the line under ``HEAD``: medians, and medians of the pairs' ratios."""
        cells = [self.name]
        for value, digits in _COLUMNS:
            own, other = ([value(run) for run in runs] for runs in zip(*self.pairs, strict=True))
            share = median(a / b for a, b in zip(own, other, strict=True))
            cells += [f"{median(side):,.{digits}f}" for side in (own, other)] + [f"{share:.2f}"]
        cells.append(" ".join(f"{ratio:.2f}" for ratio in self.ratios()))
        return f"| {' | '.join(cells)} |"


def known(name: str) -> bool:
    """Return True if two checkouts can be compared in this scenario."""
    return name in COMPARED or (name.startswith(_DRAIN) and name[len(_DRAIN) :] in DRAINED)


def program(checkout: Path) -> Path:
    """Return the ``forwarder`` of a checkout; raises ``FileNotFoundError`` if it has none."""
    path = checkout.absolute() / ".venv/bin/forwarder"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: run `make venv` in {checkout}")
    return path


def compare(
    names: Sequence[str], count: int, runs: int, other: Path, own: Path = OWN
) -> Iterator[Comparison]:
    """Measure ``runs`` pairs of each scenario with two programs; yields as they come."""
    with helper("bench.cloudflare", str(count)) as api:
        for name in names or USUAL:
            with ExitStack() as stack:
                measure = _measure(name, count, api, (own, other), stack)
                pairs = [_pair(measure, own, other, turn) for turn in range(runs)]
            yield Comparison(name, pairs)


def _pair(measure: Measure, own: Path, other: Path, turn: int) -> tuple[Result, Result]:
    # Who goes first changes with each pair: the second run finds warmer caches.
    if turn % 2:
        second = measure(other)
        return measure(own), second
    return measure(own), measure(other)


def _measure(
    name: str, count: int, api: int, programs: tuple[Path, Path], stack: ExitStack
) -> Measure:
    """Return what runs the scenario once with a program; ``stack`` keeps its journals."""
    sinks = COMPARED.get(name, DRAINED)
    starts = {
        program: median(start_cpu(sinks, api, program) for _ in range(_STARTS))
        for program in programs
    }
    if name in COMPARED:
        return lambda program: catch_up(name, count, api, starts[program], program)
    # Each program drains a journal that it has written itself: their formats may differ.
    journals = {
        program: stack.enter_context(full_journal(DRAINED, count, api, program))
        for program in programs
    }
    kind = name.removeprefix(_DRAIN)
    return lambda program: drain(kind, count, journals[program], starts[program], program)
