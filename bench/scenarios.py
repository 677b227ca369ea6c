"""What is measured with many rows: catch-up into sinks, and the drain of a full journal."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.clients import SILENT
from bench.processes import DAEMON_CORE, OWN, Daemon, Usage, helper
from bench.recordings import Recording
from bench.stages import CHANGES, LOGINS, QUIET_ACCOUNT, stage
from bench.watching import until

SCENARIOS = {
    "journal": ("journal",),
    "null": ("null",),
    "stdout": ("stdout",),
    "file": ("file",),
    "hec": ("hec",),
    "bulk": ("bulk",),
    "kafka": ("kafka",),
    "tcp": ("tcp",),
    "tls": ("tls",),
    "relp": ("relp",),
    "lake": ("lake",),
    "otlp": ("otlp",),
    "sentinel": ("sentinel",),
    "lake-parquet": ("lake-parquet",),
    "fan-out": ("hec", "kafka", "tcp"),
}
"""Catch-ups by name: sinks at once. ``journal`` is paused, so that only the journal is filled."""

COMPARED = {**SCENARIOS, "scim-hec": ("hec",)}
"""Catch-ups of two checkouts by name; ``scim-hec`` has SCIM changes, all others have logins."""

DRAINED = ("hec", "kafka", "tls")
_SETTLED = 0.5


@dataclass(frozen=True, slots=True)
class Result:
    """One run: events a second into each sink, events, and what the daemon used for them."""

    rate: float
    events: int
    usage: Usage

    @property
    def cpu_us(self) -> float:
        """Return the daemon's CPU microseconds an event."""
        return self.usage.cpu / self.events * 1e6


@dataclass(frozen=True, slots=True)
class Bare:
    """One run of the bare client: events a second, CPU microseconds an event."""

    rate: float
    cpu_us: float


def catch_up(name: str, count: int, api: int, start: float, program: Path = OWN) -> Result:
    """Measure the API's whole history into fresh sinks; ``start`` is the CPU of a start alone."""
    sinks, stream = COMPARED[name], LOGINS if name in SCENARIOS else CHANGES
    paused = sinks if name == "journal" else ()
    with (
        stage(sinks, api, program=program, stream=stream) as here,
        here.daemon(paused=paused) as process,
    ):
        rate = until(count, _progress(process, sinks, stored=bool(paused)))
        return _result(rate, count, process.usage(), start)


def start_cpu(sinks: Sequence[str], api: int, program: Path = OWN) -> float:
    """Return the CPU seconds of a start with nothing to do."""
    with (
        stage(sinks, api, program=program) as here,
        here.daemon(account=QUIET_ACCOUNT) as process,
    ):
        while not process.has_polled():
            time.sleep(0.1)  # noqa: TID251 - nothing else runs here
        time.sleep(_SETTLED)  # noqa: TID251 - nothing else runs here
        return process.usage().cpu


@contextmanager
def full_journal(sinks: Sequence[str], count: int, api: int, program: Path = OWN) -> Iterator[Path]:
    """Give a state folder with ``count`` rows that none of these sinks has read."""
    with (
        tempfile.TemporaryDirectory(prefix="bench") as kept,
        stage(sinks, api, program=program) as here,
    ):
        with here.daemon(paused=sinks) as process:
            until(count, process.stored)
            process.stop()
        state = Path(kept) / "state"
        shutil.move(here.folder / "state", state)
        yield state


def drain(kind: str, count: int, state: Path, start: float, program: Path = OWN) -> Result:
    """Measure the delivery of a full journal, a copy of ``state``; the API shows nothing new."""
    with quiet_api() as api, stage(DRAINED, api, program=program) as here:
        shutil.copytree(state, here.folder / "state")
        others = [other for other in DRAINED if other != kind]
        with here.daemon(paused=others) as process:
            rate = until(count, lambda: process.delivered((kind,)))
            return _result(rate, count, process.usage(), start)


def bare(
    name: str, count: int, api: int, recordings: dict[str, Recording], *, ready: bool = False
) -> Bare:
    """Measure the bare client; ``ready`` bytes are sent without fetching anything."""
    sinks = SCENARIOS.get(name, (name,))
    with stage(sinks, api) as here:
        for kind in set(sinks) - SILENT:
            recordings[kind].save(here.folder / f"{kind}.bytes")
        ports = ",".join(str(here.ports[kind]) for kind in sinks)
        words = [",".join(sinks), str(count), "0" if ready else str(api), ports, str(here.folder)]
        command = ["taskset", "-c", str(DAEMON_CORE), sys.executable, "-m", "bench.floors", *words]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rate, cpu_us = done.stdout.split()
    return Bare(float(rate), float(cpu_us))


@contextmanager
def quiet_api() -> Iterator[int]:
    """Run an API without a row."""
    with helper("bench.cloudflare", "0") as api:
        yield api


def _progress(process: Daemon, sinks: Sequence[str], *, stored: bool) -> Callable[[], int]:
    return process.stored if stored else lambda: process.delivered(sinks)


def _result(rate: float, count: int, usage: Usage, start: float) -> Result:
    return Result(rate, count, Usage(usage.cpu - start, usage.peak, usage.written))
