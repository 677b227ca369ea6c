"""The simulator as a test or a command holds it.

The simulator as a test or a command holds it: settings in, base URL out, everything to hand.

A simulator as a process of its own, for the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from forwarder.simulator.cloud import Cloud, VisitLog
from forwarder.simulator.company import Directory
from forwarder.simulator.exchange import build_app
from forwarder.simulator.faults import FaultScript
from forwarder.simulator.feed import Clock, Feed, read_row
from forwarder.simulator.settings import SimulatorSettings, Token

SHUTDOWN_SECONDS = 1.0


class Simulator:
    """A Cloudflare API that can be run; `async with` it, or call `start` and `aclose`.

    All of it can be changed while it runs: rows, faults, tokens, identity providers.
    """

    def __init__(
        self, settings: SimulatorSettings | None = None, *, clock: Clock | None = None
    ) -> None:
        self._cloud = Cloud(settings or SimulatorSettings(), clock)
        self._runner: web.AppRunner | None = None
        self.url = ""
        """The base URL, `http://127.0.0.1:PORT/client/v4`; empty until started."""

    @property
    def settings(self) -> SimulatorSettings:
        """What it was asked to be."""
        return self._cloud.settings

    @property
    def faults(self) -> FaultScript:
        """What goes wrong; `faults.add(Fault("html", status=502, times=3))`."""
        return self._cloud.faults

    @property
    def requests(self) -> VisitLog:
        """The requests that came."""
        return self._cloud.visits

    @property
    def times_throttled(self) -> int:
        """How often a client went over the quota."""
        return self._cloud.limiter.exceeded

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and return the base URL; port 0 takes any free one."""
        self._cloud.closing.clear()
        self._cloud.advance()
        app = build_app(self._cloud)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound = self._runner.addresses[0][1]
        self.url = f"http://{host}:{bound}/client/v4"
        return self.url

    async def aclose(self) -> None:
        """Stop listening and end every exchange; may be called at any time, any number of times."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._cloud.closing.set()
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def add(
        self,
        account: str,
        stream: str,
        row: Mapping[str, Any] | bytes,
        visible_at: float | None = None,
    ) -> int:
        """Add one instance of a row, bytes verbatim, and return its number.

        It lies at the time it states and is visible at once, or from `visible_at` (epoch seconds).
        """
        return self._feed(account, stream).add(row, visible_at)

    def amend(self, account: str, stream: str, number: int, changes: Mapping[str, Any]) -> int:
        """Change an instance for all later answers, and return the number of its new version."""
        return self._feed(account, stream).amend(number, changes)

    def shown(self, account: str, stream: str) -> list[dict[str, Any]]:
        """Return every row instance that was in an answer which was sent, as it was then."""
        return [read_row(seen.body) for seen in self._feed(account, stream).oracle.sightings()]

    def expected(self, account: str, stream: str) -> list[dict[str, Any]]:
        """Return the same, with identical rows only as often as the fullest answer held them."""
        return [read_row(seen.body) for seen in self._feed(account, stream).oracle.expected()]

    def shown_count(self, account: str, stream: str) -> int:
        """Return how many row instances were shown."""
        return self._feed(account, stream).oracle.shown

    def directory(self, account: str) -> Directory:
        """Return the identity providers of an account."""
        return self._cloud.directory(account)

    def admit(self, token: Token) -> None:
        """Accept a token from now on, instead of the one with the same value."""
        self._cloud.doorkeeper.admit(token)

    def revoke(self, value: str) -> None:
        """Accept a token no longer."""
        self._cloud.doorkeeper.revoke(value)

    def _feed(self, account: str, stream: str) -> Feed:
        self._cloud.advance()
        return self._cloud.feed(account, stream)


async def serve(
    settings: SimulatorSettings,
    host: str = "127.0.0.1",
    port: int = 8787,
    *,
    started: Callable[[str], None] | None = None,
) -> None:
    """Run a simulator until cancelled; `started` is told the base URL once it listens.

    Raises:
        OSError: the address cannot be listened on.

    """
    simulator = Simulator(settings)
    try:
        url = await simulator.start(host, port)
        if started is not None:
            started(url)
        await asyncio.Event().wait()
    finally:
        await simulator.aclose()
