"""The forwarder's own events about a stream: coverage, and late rows of a slice."""

from __future__ import annotations

from typing import Any

from forwarder.core.model import StreamKey, Window
from forwarder.core.timestamps import format_us

COVERAGE_EVERY_US = 300_000_000


def coverage(
    key: StreamKey, account: str, covered_us: int, before_us: int, rows: int
) -> list[dict[str, Any]]:
    """Say "complete until, n rows" once for every five minutes covered; a SIEM can miss it."""
    if covered_us // COVERAGE_EVERY_US == before_us // COVERAGE_EVERY_US:
        return []
    row = _about(key, account, "coverage", covered_us)
    return [{**row, "to": format_us(covered_us), "rows": rows}]


def late_rows(key: StreamKey, account: str, slice_: Window, rows: int) -> list[dict[str, Any]]:
    """Say how many rows of a slice appeared only at its second reading; nothing for none."""
    if not rows:
        return []
    row = _about(key, account, "late_rows", slice_.until_us)
    span = {"from": format_us(slice_.since_us), "to": format_us(slice_.until_us)}
    return [{**row, **span, "rows": rows}]


def _about(key: StreamKey, account: str, event: str, time_us: int) -> dict[str, Any]:
    return {
        "event": event,
        "time": format_us(time_us),
        "account_id": key.account_id,
        "account": account,
        "stream": key.stream,
    }
