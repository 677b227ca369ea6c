"""The tables of docs/performance.md; the words around them stand in ``page.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

from bench.figures import (
    CPU_US,
    DRAIN_RATE,
    DRAIN_SHARE,
    PEAK_MIB,
    PEAKS_MIB,
    RATES,
    SINGLE,
    WRITTEN,
    Figure,
    Flow,
    Found,
    Target,
)
from bench.scenarios import SCENARIOS

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs/performance.json"
PAGE = ROOT / "docs/performance.md"
TEMPLATE = Path(__file__).with_name("page.md")

FLOW_HEAD = (
    "| into | events/s | CPU µs/event | peak MiB | written, bytes/event | of a raw byte "
    "| bare, events/s | bare, CPU µs/event | share of bare |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)
DRAIN_HEAD = (
    "| out of a full journal into | events/s | CPU µs/event | peak MiB "
    "| bare with ready bytes, events/s | bare, CPU µs/event | share of bare |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)
SINGLE_HEAD = "| | | |\n|---|---|---:|"


def page(found: Found) -> str:
    """Return the whole page."""
    machine = found.machine
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        machine=f"{machine.cores} cores, {machine.cpu}, {machine.python}",
        calibration=f"{machine.round_trip_us:.2f}",
        load=f"{machine.load:.2f}",
        commit=found.commit,
        began=found.began,
        minutes=f"{found.minutes:.0f}",
        rows=f"{found.rows:,}",
        runs=found.runs,
        seconds=f"{found.seconds:.0f}",
        raw_bytes=f"{found.raw_bytes:.0f}",
        event_bytes=", ".join(f"{kind} {size:,.0f}" for kind, size in found.event_bytes.items()),
        flows=_table(FLOW_HEAD, [flow_line(one, found.raw_bytes) for one in found.flows]),
        drains=_table(DRAIN_HEAD, [drain_line(one) for one in found.drains]),
        single=_table(SINGLE_HEAD, [single_line(one) for one in found.single]),
    )


def flow_line(flow: Flow, raw_bytes: float) -> str:
    """Return a catch-up as a line of its table."""
    into = " + ".join(SCENARIOS[flow.name])
    name = flow.name if into == flow.name else f"{flow.name} ({into})"
    return _row(
        name if flow.name != "journal" else "journal alone",
        _beside(f"{flow.rate:,.0f}", flow.rate, RATES.get(flow.name)),
        _beside(f"{flow.cpu_us:.1f}", flow.cpu_us, CPU_US.get(flow.name)),
        _beside(f"{flow.peak_mib:.0f}", flow.peak_mib, PEAKS_MIB.get(flow.name, PEAK_MIB)),
        f"{flow.written:,.0f}",
        _beside(
            f"{flow.written / raw_bytes:.2f}", flow.written / raw_bytes, WRITTEN.get(flow.name)
        ),
        f"{flow.bare_rate:,.0f}",
        f"{flow.bare_cpu_us:.1f}",
        f"{flow.share:.0%}",
    )


def drain_line(flow: Flow) -> str:
    """Return a drain as a line of its table."""
    return _row(
        flow.name,
        _beside(f"{flow.rate:,.0f}", flow.rate, DRAIN_RATE),
        f"{flow.cpu_us:.1f}",
        _beside(f"{flow.peak_mib:.0f}", flow.peak_mib, PEAK_MIB),
        f"{flow.bare_rate:,.0f}",
        f"{flow.bare_cpu_us:.1f}",
        _beside(f"{flow.share:.0%}", flow.share, DRAIN_SHARE),
    )


def single_line(figure: Figure) -> str:
    """Return a figure as a line of the last table."""
    digits = 0 if figure.value >= 100 else 1 if figure.value >= 10 else 2  # noqa: PLR2004 - digits
    text = f"{figure.value:,.{digits}f} {figure.unit}"
    target = SINGLE.get((figure.scenario, figure.what))
    return _row(figure.scenario, figure.what, _beside(text, figure.value, target))


def _beside(text: str, value: float, target: Target | None) -> str:
    if target is None:
        return text
    bound = f"{target.bound:.0%}" if target is DRAIN_SHARE else f"{target.bound:,g}"
    sign = "≥" if target.at_least else "≤"
    return f"{text} ({sign} {bound}: {'met' if target.met(value) else 'short'})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(head: str, lines: Sequence[str]) -> str:
    return "\n".join([head, *lines])
