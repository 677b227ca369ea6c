"""The real Prometheus in a process of its own, with the rules that are shipped."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from forwarder.testing.network import free_port
from tests.integration.debian import program

RULES = Path(__file__).parents[3] / "deploy/prometheus"
_PATIENCE = 120.0


def tool(name: str) -> str:
    """Return the path of a program of Debian's package; raise when it cannot be had."""
    # Both are linked statically, so that an unpacked one needs no environment.
    return program(name, "prometheus")[0]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that scrapes every second."""

    url: str

    async def ready(self) -> None:
        """Return once it answers; raise ``TimeoutError`` when it does not."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                try:
                    await self._get("/-/ready")
                except (aiohttp.ClientError, ValueError):
                    await asyncio.sleep(0.1)
                else:
                    return

    async def query(self, expression: str) -> list[Mapping[str, str]]:
        """Return the labels of every sample of an instant query."""
        answer = await self._get("/api/v1/query", query=expression)
        assert answer["status"] == "success", answer
        return [sample["metric"] for sample in answer["data"]["result"]]

    async def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(self.url, raise_for_status=False) as session,
            session.get(path, params=parameters) as response,
        ):
            if path.endswith("ready"):
                response.raise_for_status()
                return {}
            answer: dict[str, Any] = await response.json()
            return answer


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """Run a server that scrapes ``targets``: ports of 127.0.0.1 by the job's name."""
    program, port = tool("prometheus"), free_port()
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "recording.yaml"), str(RULES / "alerts.yaml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            for job, target in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    command = [program, *(f"--{key}={value}" for key, value in options.items())]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(_PATIENCE)
