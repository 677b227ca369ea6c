"""A daemon on a core of its own, a Cloudflare of plain rows on the others, and what it used."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
import yaml
from aiohttp import ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import DAEMON_CORE, helper
from tests.end_to_end.processes import ACCOUNT, SCRIPT
from tests.proof.planted import with_plants
from tests.proof.turns import measured

MIB = 2**20
LIMIT_MIB = 150
SECTION = "Figures"
HEC_TOKEN = "0f8b5ab2-hec-token"

__all__ = [
    "LIMIT_MIB",
    "MIB",
    "SECTION",
    "Daemon",
    "Delivered",
    "daemon",
    "hec",
    "helper",
    "throughput",
]


@dataclass(frozen=True, slots=True)
class Delivered:
    """One look at a sink: monotonic seconds, CPU seconds of the daemon, events so far."""

    at: float
    cpu: float
    events: int


class Daemon:
    """A running daemon with its metrics."""

    def __init__(self, process: Process, url: str, http: ClientSession) -> None:
        self.process = process
        self._url = url
        self._http = http
        self._usage = psutil.Process(process.pid)

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's values over all labels that are not given."""
        async with self._http.get(f"{self._url}/metrics") as answer:
            text = await answer.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def delivered(self, sink: str) -> Delivered:
        """Return how many rows a sink has taken."""
        name, stream = "forwarder_sink_delivered_events_total", "access_requests"
        events = await self.metric(name, sink=sink, stream=stream)
        return Delivered(time.monotonic(), self.cpu, int(events))

    async def backlog(self, sink: str) -> int:
        """Return how many events wait for a sink."""
        return int(await self.metric("forwarder_sink_backlog_events", sink=sink))

    async def reached(self, sink: str, events: int, wait: float = 900) -> Delivered:
        """Return the first look at which a sink has so many rows."""
        async with asyncio.timeout(wait):
            while (look := await self.delivered(sink)).events < events:
                assert self.process.returncode is None, "the daemon has ended"
                await asyncio.sleep(0.1)
        return look

    @property
    def cpu(self) -> float:
        """Return the CPU seconds used so far."""
        times = self._usage.cpu_times()
        return times.user + times.system

    @property
    def peak(self) -> float:
        """Return the most memory that was ever resident, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    @property
    def resident(self) -> float:
        """Return the memory that is resident now, in MiB."""
        return self._usage.memory_info().rss / MIB


def hec(port: int, path: str = "", **more: Any) -> dict[str, Any]:
    """Return the settings of a HEC sink for a collector that is on this machine."""
    url = f"http://127.0.0.1:{port}{path}"
    return {"type": "splunk_hec", "format": "raw", "url": url, "token": HEC_TOKEN} | more


def settings(
    folder: Path, api: int, sinks: Mapping[str, Any], stream: Mapping[str, Any]
) -> dict[str, Any]:
    """Return default settings but for the rate limit; ``stream`` is for ``access_requests``."""
    account = {
        "account_id": ACCOUNT,
        "api_token": "a-token",
        "api_url": f"http://127.0.0.1:{api}/client/v4",
        "rate_limit": "off",
        "retention": "30d",
        "streams": {"access_requests": {"start_from": "25d", **stream}},
    }
    return {
        "version": 1,
        "state_dir": str(folder / "state"),
        "accounts": [account],
        "sinks": {name: {"start_at": "beginning"} | sink for name, sink in sinks.items()},
        "admin": {"listen": "127.0.0.1:0"},
        "log": {"format": "json"},
    }


@asynccontextmanager
async def daemon(
    folder: Path,
    api: int,
    sinks: Mapping[str, Any],
    stream: Mapping[str, Any] | None = None,
    *,
    stdout: int = DEVNULL,
    plants: bool = False,
) -> AsyncIterator[Daemon]:
    """Run the daemon in ``folder``, which may know the planted sinks; ends it behind the block."""
    config = _written(folder, settings(folder, api, sinks, stream or {}))
    process = await asyncio.create_subprocess_exec(
        SCRIPT, "run", "-c", config, stdout=stdout, stderr=PIPE, limit=MIB,
        env=measured(folder, 1, os.environ | (with_plants() if plants else {})),
    )  # fmt: skip
    os.sched_setaffinity(process.pid, {DAEMON_CORE})
    assert process.stderr is not None
    watching: asyncio.Task[None] | None = None
    try:
        url = await asyncio.wait_for(_listening(process.stderr), 60)
        watching = asyncio.create_task(_drained(process.stderr))
        async with ClientSession(timeout=ClientTimeout(total=60)) as http:
            yield Daemon(process, url, http)
    finally:
        await _ended(process)
        if watching is not None:
            await watching


async def throughput(
    folder: Path, port: int, rows: int, neighbours: Mapping[str, Any], *, plants: bool = False
) -> tuple[float, float]:
    """Return events a second of the healthy sink, by the clock and by the daemon's CPU time."""
    sinks = {"healthy": hec(port, "/healthy", ack="off"), **neighbours}
    async with daemon(folder, port, sinks, plants=plants) as running:
        first = await running.reached("healthy", 1)
        last = await running.reached("healthy", rows)
    events = last.events - first.events
    return events / (last.at - first.at), events / (last.cpu - first.cpu)


def _written(folder: Path, content: Mapping[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    config = folder / "config.yaml"
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(content))
    return config


async def fetched(url: str) -> Any:
    """Return what a server of this machine says."""
    async with ClientSession() as http, http.get(url) as answer:
        return orjson.loads(await answer.read())


async def _listening(log: asyncio.StreamReader) -> str:
    said = b""
    async for line in log:
        said += line
        if b'"admin_listening"' in line:
            return str(orjson.loads(line)["url"])
    raise AssertionError(said.decode(errors="replace"))


async def _drained(log: asyncio.StreamReader) -> None:
    async for _ in log:
        pass


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 40)
        except TimeoutError:
            process.kill()
    await process.wait()
