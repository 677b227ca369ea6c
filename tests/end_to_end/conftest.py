"""A simulated Cloudflare with two hours of history, and a forwarder that a test starts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import Cloudflare, Forwarder, cloudflare


@pytest.fixture
async def api() -> AsyncIterator[Cloudflare]:
    async with cloudflare("--rate", "2", "--scim-rate", "0.2", "--history", "2h") as running:
        yield running


@pytest.fixture
async def forwarder(api: Cloudflare, tmp_path: Path) -> AsyncIterator[Forwarder]:
    running = Forwarder(tmp_path, api.url)
    yield running
    if hasattr(running, "process"):
        await running.kill()
