"""Scenarios with few rows or none: trickle, quiet accounts, start-up, import time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

import orjson

from bench.figures import Figure
from bench.processes import daemon, helper
from bench.scenarios import full_journal, quiet_api
from bench.stages import ACCOUNT, Stage, stage

_SETTLING = 20.0


def trickle(seconds: float) -> list[Figure]:
    """Measure how long a row takes from coming to be to standing on stdout.

    Rows come 50 a second, evenly, and carry the moment in their ray id; the poll interval is a
    second, so that on average half of one belongs to waiting for the poll.
    """
    with helper("bench.cloudflare", "50/s") as api, stage(("stdout",), api) as here:
        settings = here.settings()
        stream = {"start_from": "1m", "poll_interval": "1s"}
        settings["accounts"] = [here.account(ACCOUNT, stream)]
        printed = here.folder / "stdout"
        with daemon(here.folder, settings, printed):
            lags = _lags(printed, seconds)
    cuts = quantiles(lags, n=100)
    name = "50 rows/s, row exists → on stdout, poll_interval 1s"
    return [Figure(name, f"p{cut}", cuts[cut - 1] * 1e3, "ms") for cut in (50, 95, 99)]


def _lags(path: Path, seconds: float) -> list[float]:
    """Return the age of every row when its line came, of rows that came after the first line."""
    lags: list[float] = []
    with path.open("rb") as printed:
        while not (rest := printed.read()):
            time.sleep(0.01)  # noqa: TID251 - nothing else runs here
        began_ns = time.time_ns()
        while (now_ns := time.time_ns()) < began_ns + seconds * 1e9:
            *lines, rest = (rest + printed.read()).split(b"\n")
            came = [orjson.loads(line).get("http_request", {}).get("uid", "") for line in lines]
            moments = [int(ray, 16) for ray in came if ray]
            lags += [(now_ns - moment) / 1e9 for moment in moments if moment > began_ns]
            time.sleep(0.01)  # noqa: TID251 - nothing else runs here
    return lags


def quiet(accounts: int, seconds: float, poll: str) -> list[Figure]:
    """Measure the share of a core that an idle daemon takes with so many accounts."""
    with quiet_api() as api, stage(("null",), api) as here:
        settings = here.settings()
        settings["accounts"] = [
            here.account(f"{number:032x}", {"poll_interval": poll}) for number in range(accounts)
        ]
        with daemon(here.folder, settings) as process:
            while not process.has_polled():
                time.sleep(0.1)  # noqa: TID251 - nothing else runs here
            time.sleep(_SETTLING)  # noqa: TID251 - start-up is not idling
            before = process.usage().cpu
            time.sleep(seconds)  # noqa: TID251 - idling is what is measured
            used = process.usage()
    name = f"{accounts} quiet account{'s' * (accounts > 1)}, poll_interval {poll}"
    return [
        Figure(name, "CPU, of a core", (used.cpu - before) / seconds * 100, "%"),
        Figure(name, "peak memory", used.peak / 2**20, "MiB"),
    ]


def start_up(count: int, runs: int) -> list[Figure]:
    """Measure from the start of the process to the first stored poll, with a full journal."""
    with (
        helper("bench.cloudflare", str(count)) as api,
        full_journal(("null",), count, api) as state,
    ):
        full = _first_polls(state, runs)
    return [Figure(f"start to first poll, journal of {count:,} rows", "median", full, "ms")]


def start_up_empty(runs: int) -> list[Figure]:
    """Measure the same with no journal at all."""
    return [Figure("start to first poll, no journal", "median", _first_polls(None, runs), "ms")]


def _first_polls(state: Path | None, runs: int) -> float:
    """Return the median in milliseconds; all runs share the state, without one each is new."""
    found = []
    for _ in range(runs):
        with quiet_api() as api, stage(("null",), api) as here:
            found.append(_first_poll(here, state))
    return median(found) * 1e3


def _first_poll(here: Stage, state: Path | None) -> float:
    settings = here.settings(paused=("null",))
    if state is not None:
        settings["state_dir"] = str(state)
    began = time.monotonic()
    with daemon(here.folder, settings) as process:
        while not process.has_polled():
            time.sleep(0.01)  # noqa: TID251 - nothing else runs here
        return time.monotonic() - began


def help_text(runs: int) -> list[Figure]:
    """Measure ``forwarder --help`` as a process, and the import part of it."""
    script = Path(sys.executable).with_name("forwarder")
    walls, imports = [], []
    for _ in range(runs):
        began = time.monotonic()
        subprocess.run([script, "--help"], check=True, capture_output=True)
        walls.append((time.monotonic() - began) * 1e3)
        report = subprocess.run(
            [sys.executable, "-X", "importtime", script, "--help"], check=True, capture_output=True
        )
        own = [line.split(b"|") for line in report.stderr.splitlines() if b"|" in line]
        imports.append(
            sum(int(line[1]) for line in own if line[2].startswith(b" forwarder.cli")) / 1e3
        )
    return [
        Figure("forwarder --help", "process", median(walls), "ms"),
        Figure("forwarder --help", "imports", median(imports), "ms"),
    ]
