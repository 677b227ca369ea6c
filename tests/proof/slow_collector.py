"""A HEC that acknowledges each batch after ten seconds, in a process of its own."""

from __future__ import annotations

import asyncio

import uvloop
from aiohttp import web

from tests.sinks.fakes.hec import FakeHec, say

DELAY = 10.0


class SlowCollector(FakeHec):
    """Keeps nothing but the acknowledgements that it owes."""

    def __init__(self) -> None:
        super().__init__(acks=True, ack_delay=DELAY)
        self.keep_bodies = False

    def _take_events(self, body: bytes, channel: str | None) -> web.StreamResponse:
        self.headers.clear()
        return say(0, self._ack_id(channel)) if body else say(5)


async def serve() -> None:
    """Serve on a free port and print it."""
    async with SlowCollector() as collector:
        print(collector.url.rpartition(":")[2], flush=True)  # noqa: T201 - its starter reads it
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
