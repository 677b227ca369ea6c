"""The simulator as a test or a command holds it: settings in, base URL out, everything to hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from aiohttp import web

from forwarder.simulator.cloud import Cloud
from forwarder.simulator.exchange import build_app

SHUTDOWN_SECONDS = 1.0


class Simulator(Cloud):
    """A Cloudflare API that listens; `async with` it, or call `start` and `aclose`."""

    url = ""
    """The base URL, `http://127.0.0.1:PORT/client/v4`; empty until started."""

    _runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and return the base URL; port 0 takes any free port.

        Raises:
            OSError: the address cannot be listened on.

        """
        # An event belongs to one loop; a simulator may be started again in another one.
        self.closing = asyncio.Event()
        self.advance()
        self._runner = web.AppRunner(
            build_app(self), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}/client/v4"
        return self.url

    async def aclose(self) -> None:
        """Stop listening and end every exchange; may be called at any time, any number of times."""
        # Swapped first: closing twice at the same time must not clean up twice.
        runner, self._runner = self._runner, None
        if runner is not None:
            self.closing.set()
            await runner.cleanup()

    async def serve(self, host: str, port: int, started: Callable[[str], None]) -> None:
        """Run until cancelled; calls `started` with the base URL once it listens.

        Raises:
            OSError: the address cannot be listened on.

        """
        try:
            started(await self.start(host, port))
            await asyncio.Event().wait()
        finally:
            await self.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
