"""A cell over a real journal in a file, of two accounts whose API nobody serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forwarder.config.document import parse_document
from forwarder.config.loading import build
from forwarder.config.plugins import InstalledPlugins
from forwarder.core.timing import SystemClock
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.replica import Replica, telemetry_of
from forwarder.testing.network import free_port

ACCOUNTS = ("a" * 32, "b" * 32)
SETTINGS = """
version: 1
state_dir: {folder}
accounts:
  - {{ account_id: {ACCOUNTS[0]}, api_token: t, api_url: "http://127.0.0.1:{port}/client/v4" }}
  - {{ account_id: {ACCOUNTS[1]}, api_token: t, api_url: "http://127.0.0.1:{port}/client/v4" }}
sinks: {{ console: {{ type: stdout }} }}
"""


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    text = SETTINGS.format(folder=tmp_path, port=free_port(), ACCOUNTS=ACCOUNTS)
    settings = build(parse_document(text, "config.yaml"), {}, InstalledPlugins())
    return Replica(settings, telemetry_of(settings), SystemClock())


@pytest.fixture
async def seat(replica: Replica) -> AsyncIterator[Seat]:
    """Return a seat with the cell, in which nothing runs yet."""
    seat = Seat()
    async with Cell.opened(replica, None, seat) as cell:
        seat.fill(cell)
        yield seat
