"""What is measured: catch-up into every kind of sink, fan-out, drain, trickle, quiet, start-up."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from bench.processes import DAEMON_CORE, Daemon, Usage, broker, daemon, helper

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
_LOOK = 0.4
_LONGEST = 600.0
SETTINGS = """\
version: 1
state_dir: {folder}/state
accounts:
  - account_id: {account}
    name: bench
    api_token: bench-token
    api_url: http://127.0.0.1:{api}/client/v4
    rate_limit: off
    retention: 30d
    streams: {{ access_requests: {{ start_from: 25d, reconcile: [] }} }}
sinks:
{sinks}
admin: {{ listen: "ADMIN" }}
log: {{ level: warning, format: json }}
"""
SINKS = {
    "null": "{{ type: 'null', format: raw }}",
    "stdout": "{{ type: stdout, format: ocsf }}",
    "file": "{{ type: file, format: ocsf, path: {folder}/events.ndjson }}",
    "hec": "{{ type: splunk_hec, format: ocsf, url: 'http://127.0.0.1:{port}', token: bench }}",
    "bulk": "{{ type: elasticsearch, format: ecs, url: 'http://127.0.0.1:{port}', "
    "api_key: bench }}",
    "kafka": "{{ type: kafka, format: ocsf, bootstrap_servers: ['127.0.0.1:{port}'], "
    "topic: access, idempotent: false }}",
    "tcp": "{{ type: syslog, format: ocsf, transport: tcp, host: 127.0.0.1, port: {port} }}",
    "tls": "{{ type: syslog, format: ocsf, transport: tls, host: localhost, port: {port}, "
    "tls: {{ ca_file: {folder}/ca.pem }} }}",
    "relp": "{{ type: relp, format: ocsf, host: 127.0.0.1, port: {port} }}",
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Catch-up of the API's history into some sinks at once."""

    name: str
    sinks: Sequence[str]


CATCH_UP = (
    *(Scenario(kind, (kind,)) for kind in SINKS),
    Scenario("fan-out", ("hec", "kafka", "tcp")),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One run: events into each sink, wall seconds, and what the daemon used for it."""

    events: int
    seconds: float
    usage: Usage

    @property
    def rate(self) -> float:
        """Return events a second into each sink."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Return the daemon's CPU microseconds an event."""
        return self.usage.cpu / self.events * 1e6


@contextmanager
def destination(kind: str, folder: Path) -> Iterator[int]:
    """Run what a sink delivers to; give its port, 0 where there is none."""
    if kind in {"null", "stdout", "file"}:
        yield 0
    elif kind == "kafka":
        with broker() as port:
            yield port
    else:
        with helper("bench.destinations", kind, str(folder)) as port:
            yield port


@contextmanager
def prepared(sinks: Sequence[str], api: int) -> Iterator[tuple[Path, str]]:
    """Start fresh destinations; give a folder and the settings that fit them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        _certificates(folder)
        lines = []
        for kind in sinks:
            port = stack.enter_context(destination(kind, folder))
            lines.append(f"  {kind}: " + SINKS[kind].format(port=port, folder=folder))
        yield (
            folder,
            SETTINGS.format(folder=folder, account=ACCOUNT, api=api, sinks="\n".join(lines)),
        )


def catch_up(scenario: Scenario, count: int, api: int) -> Result:
    """Measure from the first event delivered anywhere to the last one delivered everywhere.

    CPU and bytes count from the start of the process, so nothing is left out.
    """
    with prepared(scenario.sinks, api) as (folder, settings), daemon(folder, settings) as process:
        began = until(process, 1, 1)
        ended = until(process, count, len(scenario.sinks))
        return Result(count, ended - began, process.usage())


def floor(kind: str, count: int, api: int) -> tuple[float, float]:
    """Return events a second and CPU microseconds an event of the bare client."""
    with prepared((kind,), api) as (folder, settings):
        port = re.search(r"127\.0\.0\.1:(\d+)'|port: (\d+)", settings.partition("sinks:")[2])
        number = next((n for n in port.groups() if n), "0") if port else "0"
        if kind == "tls":
            (folder / "tls").touch()
        words = [kind, str(count), str(api), number, str(folder)]
        command = ["taskset", "-c", str(DAEMON_CORE), sys.executable, "-m", "bench.floors", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    rate, cpu_us = done.stdout.split()
    return float(rate), float(cpu_us)


def until(process: Daemon, count: int, sinks: int) -> float:
    """Return when every sink has ``count`` events."""
    limit = time.monotonic() + _LONGEST
    while time.monotonic() < limit:
        delivered = process.delivered()
        if len(delivered) >= sinks and min(delivered) >= count:
            return time.monotonic()
        if process.process.poll() is not None:
            raise RuntimeError("the daemon has ended; see its log")
        time.sleep(_LOOK)  # noqa: TID251 - nothing else runs here
    raise TimeoutError(f"only {process.delivered()} of {count} events were delivered")


def _certificates(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        folder / "server.pem"
    )
