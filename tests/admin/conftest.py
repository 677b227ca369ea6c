"""An admin server over a small fake daemon, on a free port of 127.0.0.1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientSession

from forwarder.admin.server import AdminServer, Verdict


@dataclass
class FakeDaemon:
    """Says what a test tells it to say."""

    alive: Verdict = field(default_factory=lambda: Verdict(well=True))
    readiness: Verdict = field(default_factory=lambda: Verdict(well=True))
    state: Mapping[str, Any] = field(default_factory=lambda: {"ready": True})
    past: Mapping[str, Any] = field(default_factory=lambda: {"times": []})

    def live(self) -> Verdict:
        return self.alive

    def ready(self) -> Verdict:
        return self.readiness

    async def status(self) -> Mapping[str, Any]:
        return self.state

    def history(self) -> Mapping[str, Any]:
        return self.past

    async def metrics(self) -> bytes:
        return b"forwarder_ready 1.0\n"


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
async def url(daemon: FakeDaemon) -> AsyncIterator[str]:
    server = AdminServer(daemon)
    yield await server.start("127.0.0.1", 0)
    await server.aclose()


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session
