"""Scenarios that are no catch-up: drain, trickle, quiet accounts, start-up, import time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

import orjson

from bench.processes import daemon, helper
from bench.scenarios import prepared, until

_QUIET = """\
  - account_id: {account}
    api_token: token-{number}
    api_url: http://127.0.0.1:{api}/client/v4
    streams: {{ access_requests: {{ poll_interval: {poll}, reconcile: [] }} }}
"""


def drain(count: int, api: int) -> dict[str, float]:
    """Fill a journal while the sink is paused, then measure its delivery alone."""
    with prepared(("hec",), api) as (folder, settings):
        paused = settings.replace("{ type: splunk_hec,", "{ type: splunk_hec, paused: true,")
        with daemon(folder, paused) as filling:
            while filling.backlog() < count:
                time.sleep(0.2)  # noqa: TID251 - nothing else runs here
            filling.stop()
        with daemon(folder, settings) as process:
            began = until(process, 1, 1)
            seconds = until(process, count, 1) - began
            used = process.usage()
    return {
        "events_per_second": count / seconds,
        "cpu_us_per_event": used.cpu / count * 1e6,
        "peak_mib": used.peak / 2**20,
    }


def start_up(count: int, api: int) -> dict[str, float]:
    """Measure from the start of the process to the first stored poll, with a full journal."""
    with prepared(("hec",), api) as (folder, settings):
        paused = settings.replace("{ type: splunk_hec,", "{ type: splunk_hec, paused: true,")
        with daemon(folder, paused) as filling:
            while filling.backlog() < count:
                time.sleep(0.5)  # noqa: TID251 - nothing else runs here
            filling.stop()
        began = time.monotonic()
        with daemon(folder, paused) as process:
            while not process.has_polled():
                time.sleep(0.02)  # noqa: TID251 - nothing else runs here
            return {"rows": count, "seconds": time.monotonic() - began}


def trickle(seconds: int) -> dict[str, float]:
    """Measure how long a row takes from being shown first to standing on stdout, in seconds.

    Rows appear 50 a second and carry the moment in their ray id; the poll interval is a second,
    so that on average half of one belongs to the polling.
    """
    with (
        helper("bench.cloudflare", "1000", "50") as api,
        prepared(("stdout",), api) as (folder, settings),
    ):
        changed = settings.replace("start_from: 25d", "start_from: 1m, poll_interval: 1s")
        with daemon(folder, f"# KEEP_STDOUT\n{changed}"):
            lags = _lags(folder / "stdout", seconds)
    return {"rows": len(lags), "p50_s": median(lags), "p99_s": quantiles(lags, n=100)[98]}


def _lags(path: Path, seconds: int) -> list[float]:
    """Read stdout as it grows; return the age of every row of the trickle when its line came."""
    lags: list[float] = []
    until_s, place = time.time() + seconds, 0
    while time.time() < until_s:
        text = path.read_bytes() if path.exists() else b""
        end = text.rfind(b"\n") + 1
        now_ns = time.time_ns()
        for line in text[place:end].splitlines():
            ray = orjson.loads(line).get("http_request", {}).get("uid", "")
            age = (now_ns - int(ray, 16)) / 1e9 if ray else -1.0
            if 0 <= age < seconds:
                lags.append(age)
        place = end
        time.sleep(0.02)  # noqa: TID251 - nothing else runs here
    return lags


def quiet(accounts: int, seconds: int, poll: str) -> dict[str, float]:
    """Measure the share of a core that an idle daemon takes with so many accounts."""
    with helper("bench.cloudflare", "0") as api, prepared(("null",), api) as (folder, settings):
        more = "".join(
            _QUIET.format(account=f"{number:032x}", number=number, api=api, poll=poll)
            for number in range(1, accounts)
        )
        changed = settings.replace("sinks:\n", f"{more}sinks:\n").replace(
            "start_from: 25d", f"poll_interval: {poll}"
        )
        with daemon(folder, changed) as process:
            time.sleep(20)  # noqa: TID251 - start-up is not idling
            before = process.usage().cpu
            time.sleep(seconds)  # noqa: TID251 - idling is what is measured
            used = process.usage()
    return {"share_of_core": (used.cpu - before) / seconds, "peak_mib": used.peak / 2**20}


def import_ms(runs: int) -> dict[str, float]:
    """Measure ``forwarder --help`` as a process and the import part of it, in milliseconds."""
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
    return {"process_ms": median(walls), "import_ms": median(imports)}
