"""A backfill shows how far it is, with and without a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.cli.backfill import Bar, is_open

READING = {
    "lane": "backfill:7f",
    "since": "2026-07-01T00:00:00Z",
    "done_until": "2026-07-01T03:00:00Z",
    "until": "2026-07-01T12:00:00Z",
    "rows": 480,
}


def status(*, reading: bool, backlog: int, here: bool = True) -> dict[str, Any]:
    lanes = [{"lane": "live", "backlog_events": 5}]
    lanes += [{"lane": "backfill:7f", "backlog_events": backlog}] if backlog else []
    shards = [{"shard": 0, "here": True}, {"shard": 1, "here": here}]
    reading_now = [READING] if reading else []
    return {"backfills": reading_now, "sinks": [{"lanes": lanes}], "shards": shards}


def test_without_a_terminal_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Bar(line_every=0) as bar, Bar(line_every=3600) as patient:
        bar.show(status(reading=True, backlog=20))
        bar.show(status(reading=False, backlog=3))
        patient.show(status(reading=True, backlog=20))

    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("backfill: 25% read, 480 rows, ")
    assert first.endswith("/s, 20 to deliver")
    assert second.startswith("backfill: 100% read, ")
    assert second.endswith("/s, 3 to deliver")


def test_a_lane_is_open_until_it_is_read_and_delivered() -> None:
    assert is_open(status(reading=True, backlog=0), "backfill:7f")
    assert is_open(status(reading=False, backlog=3), "backfill:7f")
    assert not is_open(status(reading=False, backlog=0), "backfill:7f")
    # Whoever works on the other shard has not said.
    assert is_open(status(reading=False, backlog=0, here=False), "backfill:7f")
