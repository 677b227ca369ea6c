"""Real processes: a simulated Cloudflare and the forwarder, both started by the console script."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientSession

SCRIPT = Path(sys.executable).with_name("forwarder")
ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
TOKEN = "simulated-token"
STREAMS = ("access_requests", "scim_updates")
_MASKED = "request_body"
_PATIENCE = 120.0
_LIVE_ROWS = 500
"""More than this in a second or two can only be history."""

SETTINGS = """\
version: 1
state_dir: {folder}/state
accounts:
  - account_id: {account}
    name: acme
    api_token_file: {folder}/token
    api_url: {url}
    rate_limit: off
    streams:
      access_requests: {{ poll_interval: 1s }}
      scim_updates: {{ poll_interval: 1s, refresh: 10s }}
sinks:
  console: {{ type: stdout, format: raw }}
admin: {{ listen: "127.0.0.1:0" }}
log: {{ format: json }}
"""


class Cloudflare:
    """A simulator in a process of its own."""

    def __init__(self, url: str, http: ClientSession) -> None:
        self.url = url
        self._base = url.removesuffix("/client/v4")
        self._http = http

    async def shown(self) -> Counter[bytes]:
        """Return every row that it has shown so far, as comparable lines with their number."""
        async with self._http.get(f"{self._base}/_simulator/shown?expected=true") as answer:
            lines = (await answer.read()).splitlines()
        return Counter(comparable(orjson.loads(line)["row"]) for line in lines)

    async def command(self, name: str, content: Any) -> None:
        """Tell it to do something."""
        async with self._http.post(f"{self._base}/_simulator/{name}", json=content) as answer:
            assert answer.status == 200, await answer.text()

    async def end_faults(self) -> None:
        """Let it behave again."""
        async with self._http.delete(f"{self._base}/_simulator/faults") as answer:
            assert answer.status == 200


@asynccontextmanager
async def cloudflare(*options: str) -> AsyncIterator[Cloudflare]:
    """Run ``forwarder simulate`` on a free port."""
    process = await asyncio.create_subprocess_exec(
        SCRIPT, "simulate", "--port", "0", "--unlimited", *options, stdout=PIPE
    )
    assert process.stdout is not None
    url = (await asyncio.wait_for(process.stdout.readline(), _PATIENCE)).decode().strip()
    try:
        async with ClientSession() as http:
            yield Cloudflare(url, http)
    finally:
        process.terminate()
        await process.wait()


class Forwarder:
    """A folder with settings, and one process after the other that runs them."""

    program: Sequence[Path | str] = (SCRIPT,)
    """What is started."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.settings = folder / "config.yaml"
        self.settings.write_text(SETTINGS.format(folder=folder, account=ACCOUNT, url=url))
        self.set_token(TOKEN)
        self._runs = 0
        self._read: Counter[int] = Counter()
        self._events: list[dict[str, Any]] = []
        self._delivered: Counter[bytes] = Counter()
        self.process: Process

    def set_token(self, token: str) -> None:
        """Swap the token's file, as an operator or Kubernetes would."""
        fresh = self.folder / "token.new"
        fresh.touch(mode=0o600)
        fresh.write_text(token)
        fresh.replace(self.folder / "token")

    async def start(self) -> None:
        """Start ``forwarder run``; its output goes to files, one pair a run."""
        self._runs += 1
        out, err = self._files(self._runs)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            self.process = await asyncio.create_subprocess_exec(
                *self.program, "run", "-c", self.settings, stdout=stdout, stderr=stderr
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM, wait: float = 30) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), wait)

    async def kill(self) -> None:
        """End it without a warning."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    def log(self) -> list[dict[str, Any]]:
        """Return the log lines of all runs."""
        return [
            orjson.loads(line)
            for run in range(1, self._runs + 1)
            for line in self._files(run)[1].read_bytes().splitlines()
            if line.startswith(b"{")
        ]

    def has_started(self) -> bool:
        """Tell whether the last run says that it has started."""
        return '"event":"started"' in self.errors()

    def errors(self) -> str:
        """Return what the last run wrote to stderr."""
        return self._files(self._runs)[1].read_text()

    def events(self) -> list[dict[str, Any]]:
        """Return the events of all runs; a line that a kill has cut is no event."""
        for run in range(1, self._runs + 1):
            self._read_on(run)
        return self._events.copy()

    def delivered(self) -> Counter[bytes]:
        """Return the rows of all runs, as comparable lines with their number."""
        self.events()
        return self._delivered.copy()

    def _read_on(self, run: int) -> None:
        """Take the complete lines that a run has written since the last look."""
        with self._files(run)[0].open("rb") as output:
            output.seek(self._read[run])
            text = output.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._read[run] += len(complete)
        fresh = [orjson.loads(line) for line in complete.splitlines()]
        self._events += fresh
        self._delivered.update(rows_of(fresh))

    async def admin_url(self) -> str:
        """Return where status and metrics are, once the process says so."""
        await until(lambda: _listening(self._files(self._runs)[1].read_text()))
        return _listening(self._files(self._runs)[1].read_text())

    def _files(self, run: int) -> tuple[Path, Path]:
        return self.folder / f"out.{run}", self.folder / f"err.{run}"


async def caught_up(api: Cloudflare, forwarder: Forwarder, wait: float = _PATIENCE) -> None:
    """Return when the history has been read and everything that was shown is on stdout."""
    await until(forwarder.delivered, wait)
    before = Counter[bytes]()
    async with asyncio.timeout(wait):
        while True:
            shown = await api.shown()
            await until(partial(_has_all, forwarder, shown), wait)
            if (shown - before).total() < _LIVE_ROWS:
                return
            before = shown
            await asyncio.sleep(1)


def _has_all(forwarder: Forwarder, shown: Counter[bytes]) -> bool:
    return not shown - forwarder.delivered()


def rows_of(events: Iterable[dict[str, Any]]) -> Counter[bytes]:
    """Return the rows in events of format raw, without the forwarder's own."""
    return Counter(
        comparable({key: value for key, value in event.items() if key != "_forwarder"})
        for event in events
        if event["_forwarder"]["stream"] in STREAMS
    )


def comparable(row: dict[str, Any]) -> bytes:
    """Return a row as one line; request bodies are left out, since passwords in them are masked."""
    kept = {key: value for key, value in row.items() if key != _MASKED}
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)


async def until(
    condition: Callable[[], object] | Callable[[], Awaitable[object]], wait: float = _PATIENCE
) -> None:
    """Return when ``condition`` holds; fail after ``wait`` seconds."""
    async with asyncio.timeout(wait):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.1)


def _listening(log: str) -> str:
    found = re.search(r'"url":"(http://[^"]+)"', log)
    return found[1] if found else ""
