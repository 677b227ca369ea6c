"""Rows after the last poll wait for the next one, unless that one is overdue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from forwarder.core.source_contract import StreamPlan
from forwarder.ingest.backfill import unread_after

SECOND_US = 1_000_000
NOW_US = 1_000_000 * SECOND_US
_SOURCE: Any = None


@dataclass
class Polled:
    poll_interval: float = 10.0


@pytest.mark.parametrize(
    ("hold_back", "ago", "waits"),
    [(0.0, 50, True), (0.0, 51, False), (600.0, 650, True), (600.0, 651, False)],
)
def test_two_polls_may_be_due(hold_back: float, ago: int, *, waits: bool) -> None:
    covered_us = NOW_US - ago * SECOND_US
    plan = StreamPlan(_SOURCE, Polled(), hold_back)

    assert unread_after(plan, covered_us, NOW_US) == (covered_us if waits else None)


def test_a_stream_that_was_never_read_has_no_poll_to_wait_for() -> None:
    assert unread_after(StreamPlan(_SOURCE, Polled()), None, NOW_US) is None
