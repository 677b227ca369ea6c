"""A simulated Cloudflare, destinations, and one daemon process after the other between them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import yaml
from aiohttp import ClientSession, ClientTimeout

from tests.end_to_end.processes import ACCOUNT, SCRIPT, TOKEN, Cloudflare, cloudflare, until
from tests.proof.books import Book, Digest, lost, shown_rows
from tests.proof.planted import with_plants
from tests.proof.turns import measured

ROOT = Path(__file__).parents[2]
HEC_TOKEN = "0f8b5ab2-hec-token"
ELASTIC_KEY = "aWQ6c2VjcmV0LWtleQ=="
SECRETS = (TOKEN, HEC_TOKEN, ELASTIC_KEY)
Books = Mapping[str, Callable[[], Book]]


class Site:
    """One folder with settings, state and logs."""

    def __init__(self, folder: Path, api: Cloudflare, sinks: Mapping[str, Any]) -> None:
        self.folder = folder
        self.api = api
        self.settings: dict[str, Any] = {
            "version": 1,
            "state_dir": str(folder / "state"),
            "journal": {"keep_delivered": "1s"},
            "accounts": [account(api.url)],
            "sinks": dict(sinks),
            "admin": {"listen": "127.0.0.1:0"},
            "log": {"format": "json"},
        }
        self.runs = 0
        self.process: Process
        self.environment: dict[str, str] = {}
        self.plants = False
        self.options: tuple[str, ...] = ()
        self.timed = True
        self._http = ClientSession(timeout=ClientTimeout(total=120))

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    async def start(self, *, at: str | None = None, times: int = 1) -> None:
        """Start ``forwarder run``, or the killable twin that ends at a point."""
        self.runs += 1
        self.write_settings()
        command: list[str | Path] = [SCRIPT, "run", "-c", self.config]
        if at is not None or self.plants:
            command = [sys.executable, "-m", "tests.proof.killable", "-c", self.config]
            command += ["--at", at or "", "--times", str(times), *self.options]
        environment = os.environ | self.environment
        if self.plants:
            environment |= with_plants()
        if self.timed and "LD_PRELOAD" not in environment:
            # A library that fakes the clocks reads a file at each look: turns would be its own.
            environment = measured(self.folder, self.runs, environment)
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=out, stderr=err, cwd=ROOT, env=environment
            )

    def write_settings(self) -> None:
        """Write the file that every command reads."""
        self.config.touch(mode=0o600)
        self.config.write_text(yaml.safe_dump(self.settings, sort_keys=False))

    async def running(self) -> None:
        """Return when the process says that it has started."""
        await until(lambda: self.started)

    @property
    def started(self) -> bool:
        """Return True once the process has reported that it has started."""
        return any(line["event"] == "started" for line in self.log())

    async def stop(self, wait: float = 40.0) -> int:
        """Ask it to end and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), wait)

    def kill(self) -> None:
        """End it at once, from anywhere; ``ended`` tells when it is gone."""
        if self.process.returncode is None:
            self.process.kill()

    async def ended(self, within: float) -> bool:
        """Wait for its end; return False when it still runs after ``within`` seconds."""
        try:
            await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            return False
        return True

    async def shown(self) -> Counter[Digest]:
        """Return the rows that the API has shown so far."""
        url = self.api.url.removesuffix("/client/v4") + "/_simulator/shown?expected=true"
        async with self._http.get(url) as answer:
            return shown_rows([line async for line in answer.content])

    async def visible(self) -> int:
        """Return how many rows the API has of the streams that the daemon reads."""
        url = self.api.url.removesuffix("/client/v4") + "/_simulator/state"
        async with self._http.get(url) as answer:
            streams = (await answer.json())["streams"]
        read = self.settings["accounts"][0].get("streams") or ("access_requests", "scim_updates")
        return sum(one["visible"] for one in streams if one["stream"] in read)

    async def status(self) -> Any:
        """Return what the admin server says, None while it says nothing."""
        url = next((line["url"] for line in self.log() if line["event"] == "admin_listening"), None)
        if url is None:
            return None
        async with self._http.get(url + "/status") as answer:
            return await answer.json()

    def log(self) -> list[dict[str, Any]]:
        """Return the log lines of the last run."""
        text = self._file("err").read_bytes()
        return [orjson.loads(line) for line in text.splitlines() if line.startswith(b"{")]

    def errors(self) -> str:
        """Return what the last run wrote to stderr."""
        return self._file("err").read_text(errors="replace")

    def usage(self) -> psutil.Process:
        """Return the running process for measuring."""
        return psutil.Process(self.process.pid)

    async def command(self, *arguments: str) -> tuple[int, bytes]:
        """Run a command of the console script on these settings."""
        process = await asyncio.create_subprocess_exec(
            SCRIPT, *arguments, "-c", self.config,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | (with_plants() if self.plants else {}),
        )  # fmt: skip
        out, err = await process.communicate()
        self.folder.joinpath(f"cli.{self.runs}.{'-'.join(arguments[:2])}").write_bytes(out + err)
        return process.returncode or 0, out

    async def dead_letters(self) -> Mapping[str, set[str]]:
        """Return the ids of dead letters by sink."""
        _, out = await self.command("dead-letters", "list", "--json", "--limit", "1000000")
        found: dict[str, set[str]] = {}
        for letter in orjson.loads(out):
            found.setdefault(letter["sink"], set()).add(letter["event_id"])
        return found

    async def settled(
        self, books: Books, wait: float, dead: Mapping[str, Callable[[], set[str]]] | None = None
    ) -> tuple[Counter[Digest], float]:
        """Return when all that was shown until now is everywhere: the rows, the seconds it took.

        ``dead`` gives, for a sink that refuses, the ids it has refused. Fails after ``wait``.
        """
        began, shown = time.monotonic(), await self.shown()
        while True:
            looked = time.monotonic()
            left = missing(shown, books, dead or {})
            if not any(left.values()):
                return shown, time.monotonic() - began
            if time.monotonic() - began > wait:
                sinks = (await self.status() or {}).get("sinks")
                raise AssertionError(f"missing after {wait} s: {left}; {sinks}")
            await asyncio.sleep(max(0.25, 3 * (time.monotonic() - looked)))

    async def standing(self, books: Books, wait: float = 60) -> dict[str, int]:
        """Return what is missing of all that was shown until now, once that stands still."""
        shown, before = await self.shown(), {"": 0}
        async with asyncio.timeout(wait):
            while (left := missing(shown, books, {})) != before:
                before = left
                await asyncio.sleep(3)
        return left

    def leaks(self) -> list[str]:
        """Return the files of this folder, state included, that hold a secret in clear text."""
        files = [file for file in self.folder.rglob("*") if file.is_file() and file != self.config]
        found = [(file, secret) for file in files for secret in SECRETS
                 if secret.encode() in file.read_bytes()]  # fmt: skip
        return [f"{file.name}: {secret}" for file, secret in found]

    async def aclose(self) -> None:
        """End what runs; a leaked secret fails the test."""
        if self.runs:
            self.kill()
            await self.process.wait()
        await self._http.close()
        assert self.leaks() == []

    def _file(self, kind: str) -> Path:
        return self.folder / f"{kind}.{self.runs}"


def missing(
    shown: Counter[Digest], books: Books, dead: Mapping[str, Callable[[], set[str]]]
) -> dict[str, int]:
    """Return how many shown rows each sink has neither got nor refused."""
    known: dict[str, Digest] = {}
    for sink in books:
        known |= books[sink]().rows
    left = {}
    for sink, book in books.items():
        refused = dead[sink]() if sink in dead else set()
        left[sink] = lost(shown, book(), [known[i] for i in refused if i in known])
    return left


def account(url: str, **more: Any) -> dict[str, Any]:
    """Return the settings of the simulator's account, polled as often as may be."""
    streams = {"access_requests": {"poll_interval": "1s", "page_size": 200},
               "scim_updates": {"poll_interval": "1s", "refresh": "10s"}}  # fmt: skip
    return {"account_id": ACCOUNT, "name": "acme", "api_token": TOKEN, "api_url": url,
            "rate_limit": "off", "streams": streams} | more  # fmt: skip


def quick(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a sink's settings with batches small enough to be interrupted."""
    return {"start_at": "beginning", "batch": {"max_events": 200}} | settings


@asynccontextmanager
async def site(folder: Path, sinks: Mapping[str, Any], *simulator: str) -> AsyncIterator[Site]:
    """Run a simulator and make a site for it."""
    async with cloudflare(*simulator) as api:
        made = Site(folder, api, sinks)
        try:
            yield made
        finally:
            await made.aclose()
