"""The forwarder's own events about a stream: coverage, and late rows of a slice."""

from __future__ import annotations

from typing import Any

from forwarder.core.contracts import StreamKey, Window
from forwarder.core.log import ReaderState
from forwarder.core.own_events import Own, own_row

COVERAGE_EVERY_US = 300_000_000


def coverage(key: StreamKey, account: str, state: ReaderState, rows: int) -> list[dict[str, Any]]:
    """Say "complete until, n rows" once for every five minutes covered; a SIEM can miss it.

    ``state`` is the live reader's with the window that ends.
    """
    before_us = state.covered_until_us
    covered_us = state.window.until_us if state.window else before_us
    if covered_us // COVERAGE_EVERY_US == before_us // COVERAGE_EVERY_US:
        return []
    return [
        own_row(
            Own.COVERAGE, covered_us, stream=key, account=account, until_us=covered_us, rows=rows
        )
    ]


def late_rows(key: StreamKey, account: str, slice_: Window, rows: int) -> list[dict[str, Any]]:
    """Say how many rows of a slice appeared only at its second reading; nothing for none."""
    if not rows:
        return []
    return [
        own_row(
            Own.LATE_ROWS,
            slice_.until_us,
            stream=key,
            account=account,
            since_us=slice_.since_us,
            until_us=slice_.until_us,
            rows=rows,
        )
    ]
