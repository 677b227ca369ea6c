"""`forwarder status`: how the running forwarder is.

The state of a daemon as tables for a terminal.

``forwarder status``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forwarder.cli.options import config_option, json_option, settings_from
from forwarder.core.contracts import LIVE
from forwarder.core.timing import parse_us
from forwarder.transport.settings import format_duration, format_size

_NUMBERS = {
    "backlog",
    "oldest",
    "dead letters",
    "lag",
    "retention left",
    "done",
    "rows",
}
_MOMENTS = {"covered until", "read until", "to", "from", "latest"}
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
    parts = (
        _headline(state),
        _streams(state),
        _troubles(state, "streams", lambda one: f"{one['stream']} of {one['account']}"),
        _sinks(state),
        _troubles(state, "sinks", lambda one: f"sink {one['sink']}"),
        _journal(state),
        _backfills(state),
        _lanes(state),
        _letters(state),
        _gaps(state),
    )
    blocks = [part for part in parts if part is not None]
    return Group(*[one for block in blocks for one in ("", block)][1:])


def _headline(state: Mapping[str, Any]) -> RenderableType:
    uptime = format_duration(state["uptime_seconds"])
    about = f"  version {state['version']}, up {uptime}, config {state['config']}"
    if state["ready"]:
        return Text.assemble(("ready", "bold green"), about)
    reasons = [f"\n  {reason}" for reason in state["reasons"]]
    return Text.assemble(("not ready", "bold red"), about, *reasons)


def _streams(state: Mapping[str, Any]) -> Table:
    table = _table("account", "stream", "phase", "covered until", "lag", "retention left")
    for one in state["streams"]:
        table.add_row(
            escape(one["account"]),
            one["stream"],
            _phase(one["phase"]),
            _second(one["covered_until"]),
            _seconds(one["lag_seconds"]),
            _seconds(one["retention_left_seconds"]),
        )
    return table


def _sinks(state: Mapping[str, Any]) -> Table:
    table = _table("sink", "type", "phase", "backlog", "oldest", "dead letters")
    for one in state["sinks"]:
        table.add_row(
            escape(one["sink"]),
            one.get("type", ""),
            _phase(one["phase"]),
            f"{one['backlog_events']:,}",
            _seconds(one["oldest_unacknowledged_seconds"] or None),
            f"{one['dead_letters']:,}",
        )
    return table


def _troubles(
    state: Mapping[str, Any], kind: str, name: Callable[[Mapping[str, Any]], str]
) -> Text | None:
    """Return a line for each error that the headline does not give: which, what, what to do."""
    told = "\n".join(state["reasons"])
    lines = [
        f"{name(one)}: {one['error']}" + (f" ({one['hint']})" if one["hint"] else "")
        for one in state[kind]
        if one["error"] and one["error"] not in told
    ]
    return Text("\n".join(lines), "yellow") if lines else None


def _journal(state: Mapping[str, Any]) -> Text:
    journal = state["journal"]
    share = journal["undelivered_bytes"] / max(1, journal["limit_bytes"])
    text = (
        f"journal: {share:.1%} of {format_size(journal['limit_bytes'])} undelivered, "
        f"file {journal['file_bytes'] / 2**20:.1f} MiB"
    )
    full = "  full: nothing is read until a sink catches up"
    return Text.assemble(text, (full, "red") if journal["gate_closed"] else "")


def _backfills(state: Mapping[str, Any]) -> Table | None:
    table = _table("backfill", "account", "stream", "read until", "to", "done", "rows")
    for one in state["backfills"]:
        table.add_row(
            one["lane"],
            escape(one["account"]),
            one["stream"],
            _second(one["done_until"]),
            _second(one["until"]),
            f"{_share(one):.0%}",
            f"{one['rows']:,}",
        )
    return table if table.rows else None


def _lanes(state: Mapping[str, Any]) -> Table | None:
    """Return what backfills and replays still have to deliver."""
    table = _table("lane", "sink", "backlog")
    for sink in state["sinks"]:
        for lane in sink["lanes"]:
            if lane["lane"] != LIVE:
                table.add_row(lane["lane"], escape(sink["sink"]), f"{lane['backlog_events']:,}")
    return table if table.rows else None


def _letters(state: Mapping[str, Any]) -> Table | None:
    table = _table("dead letters", "sink", "latest", "reason")
    for one in state["dead_letters"]:
        events, reason = f"{one['events']:,}", escape(one["reason"])
        table.add_row(events, escape(one["sink"]), _second(one["latest"]), reason)
    return table if table.rows else None


def _gaps(state: Mapping[str, Any]) -> RenderableType | None:
    """Return the gaps that are open; closed ones are counted."""
    gaps = state["gaps"]
    closed = gaps["total"] - gaps["open"]
    if not gaps["open"]:
        return Text(f"gaps: {closed} closed, see forwarder gaps list") if closed else None
    table = _table("open gap", "reason", "from", "to", "rows", "detail")
    for one in gaps["latest"]:
        if one["closed"] is None:
            rows = "" if one["rows"] is None else f"{one['rows']:,}"
            since, until = _second(one["since"]), _second(one["until"])
            cause = Text(one["reason"], "red")
            table.add_row(escape(one["scope"]), cause, since, until, rows, escape(one["detail"]))
    return table


def _share(one: Mapping[str, Any]) -> float:
    """Return how much of a backfill's window has been read, from 0 to 1."""
    since, done, until = (parse_us(one[key]) or 0 for key in ("since", "done_until", "until"))
    return (done - since) / max(1, until - since)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in _NUMBERS else "left",
            overflow="fold",
            no_wrap=column in _MOMENTS,
        )
    return table


def _phase(phase: str) -> Text:
    return Text(phase, _COLOURS.get(phase, ""))


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(round(seconds))


def _second(moment: str | None) -> str:
    """Return an RFC 3339 time without its fraction."""
    return "" if moment is None else f"{moment[:19]}Z"


_WIDE = 200
"""Characters in a line for those that are no terminal: a pipe, a file, kubectl exec."""


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Show it anew every second, until interrupted.")
def command(config: Path, *, as_json: bool, watch: bool) -> None:
    """Show how the running forwarder is: streams, sinks, journal.

    Exit status: 0 when it is ready, 1 when it is not or when none runs.
    """
    state_dir = settings_from(config).root.state_dir
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_watch(state_dir))
        return
    state = _ask(state_dir)
    if as_json:
        import orjson  # noqa: PLC0415 - keeps --help fast

        click.echo(orjson.dumps(state, option=orjson.OPT_INDENT_2).decode())
    else:
        from rich.console import Console  # noqa: PLC0415 - slow to import

        terminal = sys.stdout.isatty() or "COLUMNS" in os.environ
        Console(width=None if terminal else _WIDE).print(rendered(state))
    sys.exit(0 if state["ready"] else 1)


def _ask(state_dir: Path) -> Any:
    from forwarder.admin.client import ask  # noqa: PLC0415 - keeps --help fast

    return ask(state_dir, "status")


async def _watch(state_dir: Path) -> None:
    from rich.live import Live  # noqa: PLC0415 - slow to import

    with Live(rendered(_ask(state_dir)), auto_refresh=False, screen=True) as live:
        while True:
            await asyncio.sleep(1)
            live.update(rendered(await asyncio.to_thread(_ask, state_dir)), refresh=True)
