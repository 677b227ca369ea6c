"""The state of a daemon as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forwarder.transport.units import format_duration, format_size

_COLOURS = {
    "running": "green",
    "idle": "green",
    "paused": "cyan",
    "held": "red",
    "waiting": "yellow",
    "gated": "yellow",
}


def rendered(state: Mapping[str, Any]) -> RenderableType:
    """Return what ``forwarder status`` prints; ``state`` is what /status gives."""
    return Group(_headline(state), "", _streams(state), "", _sinks(state), "", _journal(state))


def _headline(state: Mapping[str, Any]) -> RenderableType:
    uptime = format_duration(state["uptime_seconds"])
    about = f"  version {state['version']}, up {uptime}, config {state['config']}"
    if state["ready"]:
        return Text.assemble(("ready", "bold green"), about)
    reasons = [f"\n  {reason}" for reason in state["reasons"]]
    return Text.assemble(("not ready", "bold red"), about, *reasons)


def _streams(state: Mapping[str, Any]) -> Table:
    table = _table(
        "account", "stream", "phase", "covered until", "lag", "retention left", "trouble"
    )
    for one in state["streams"]:
        table.add_row(
            escape(one["account"]),
            one["stream"],
            _phase(one["phase"]),
            _second(one["covered_until"]),
            _seconds(one["lag_seconds"]),
            _seconds(one["retention_left_seconds"]),
            _trouble(one),
        )
    return table


def _sinks(state: Mapping[str, Any]) -> Table:
    table = _table("sink", "type", "phase", "backlog", "oldest", "dead letters", "trouble")
    for one in state["sinks"]:
        table.add_row(
            escape(one["sink"]),
            one.get("type", ""),
            _phase(one["phase"]),
            f"{one['backlog_events']:,}",
            _seconds(one["oldest_unacknowledged_seconds"] or None),
            f"{one['dead_letters']:,}",
            _trouble(one),
        )
    return table


def _journal(state: Mapping[str, Any]) -> Text:
    journal = state["journal"]
    share = journal["undelivered_bytes"] / max(1, journal["limit_bytes"])
    text = (
        f"journal: {share:.1%} of {format_size(journal['limit_bytes'])} undelivered, "
        f"file {journal['file_bytes'] / 2**20:.1f} MiB"
    )
    full = "  full: nothing is read until a sink catches up"
    return Text.assemble(text, (full, "red") if journal["gate_closed"] else "")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column in {"backlog", "oldest", "dead letters", "lag", "retention"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _phase(phase: str) -> Text:
    return Text(phase, _COLOURS.get(phase, ""))


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(round(seconds))


def _second(moment: str | None) -> str:
    """Return an RFC 3339 time without its fraction."""
    return "" if moment is None else f"{moment.partition('.')[0]}Z"


def _trouble(one: Mapping[str, Any]) -> str:
    hint = f" ({one['hint']})" if one["hint"] else ""
    return escape(f"{one['error']}{hint}") if one["error"] else ""
