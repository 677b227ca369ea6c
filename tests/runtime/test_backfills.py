"""Backfills of a real journal, whose readers find nobody at the address of the API."""

from __future__ import annotations

from pathlib import Path

from forwarder.config.document import parse_document
from forwarder.config.loading import build
from forwarder.config.plugins import InstalledPlugins
from forwarder.core.timing import SystemClock
from forwarder.runtime.cell import Cell
from forwarder.runtime.replica import Replica, telemetry_of
from forwarder.testing.network import free_port

SETTINGS = """
version: 1
state_dir: {folder}
accounts:
  - account_id: 023e105f4ecef8ad9ca31a8372d0c353
    api_token: t
    api_url: http://127.0.0.1:{port}/client/v4
sinks: {{ console: {{ type: stdout }} }}
"""


async def test_of_two_lanes_that_begin_alike_only_the_one_that_was_named_is_read(
    tmp_path: Path,
) -> None:
    text = SETTINGS.format(folder=tmp_path, port=free_port())
    settings = build(parse_document(text, "config.yaml"), {}, InstalledPlugins())
    replica = Replica(settings, telemetry_of(settings), SystemClock())
    window = {"since_us": 1_796_040_000_000_000, "until_us": 1_796_040_060_000_000}
    async with Cell.opened(replica) as cell:
        await cell.streams.start(settings.accounts, poll=False)
        for lane in ("backfill:1", "backfill:12"):
            await cell.journal.open_backfill(lane, window, [])
        begun = await cell.backfills.begin({**window, "lane": "backfill:1"})
        read = {one["lane"] for one in cell.backfills.states()}

    assert ("backfill:1", {"backfill:1"}) == (begun["lane"], read)
