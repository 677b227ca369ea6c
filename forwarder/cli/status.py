"""``forwarder status``: the status of the running forwarder, as tables for a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.errors import NotRenderableError
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forwarder import __version__
from forwarder.cli.access import Place, place_from, status_of
from forwarder.cli.terminal import (
    config_option,
    json_option,
    now_us,
    print_json,
    printable_tree,
    say,
    when,
)
from forwarder.core.errors import StateError
from forwarder.core.timing import parse_us
from forwarder.transport.settings import format_duration, format_size

_WIDE = 200
"""Characters per line if the output is not a terminal: a pipe, a file, kubectl exec."""

_NUMBERS = {
    "backlog",
    "oldest",
    "dead letters",
    "lag",
    "ago",
    "oldest row",
    "retention left",
    "done",
    "rows",
}
_MOMENTS = {"covered until", "last push", "read until", "to", "from", "latest"}
_UNWELL = {"held", "waiting", "gated"}
_LINE_EVERY = 10.0
_COLOURS = {
    "running": "green",
    "idle": "green",
    "paused": "cyan",
    "held": "red",
    "waiting": "yellow",
    "gated": "yellow",
}


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Refresh until interrupted.")
def command(config: Path, *, as_json: bool, watch: bool) -> None:
    """Show the status of the running forwarder: streams, sinks, journal.

    If several replicas own shards of the journal, their statuses are shown as one.

    --watch refreshes the screen every second (every five for a shared journal): first what needs a
    person, then rates and trends. Press q to quit. Without a terminal it prints a line every ten
    seconds, with --json one JSON object per line.

    Exit status: 0 if it is ready or degraded, 1 if it is not ready or not running.
    """
    place = place_from(config)
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            if as_json or not sys.stdout.isatty() or os.environ.get("TERM") in {None, "", "dumb"}:
                _follow(place, as_json=as_json)
            else:
                from forwarder.cli.watching import watch as draw  # noqa: PLC0415 - as above

                draw(lambda: status_of(place), _pace(place))
        return
    state = status_of(place)
    if as_json:
        print_json(state)
    else:
        from rich.console import Console  # noqa: PLC0415 - slow to import

        # rich takes 80 columns for a pipe, which folds every table.
        terminal = sys.stdout.isatty() or "COLUMNS" in os.environ
        with understood(state):
            Console(width=None if terminal else _WIDE).print(rendered(state))
    sys.exit(0 if state.get("ready") else 1)


_NOT_SHOWN = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    NotRenderableError,
)


@contextlib.contextmanager
def understood(state: Mapping[str, Any]) -> Iterator[None]:
    """Raise ``StateError`` if the block fails on the status of a forwarder of another release."""
    try:
        yield
    except _NOT_SHOWN as error:
        theirs = state.get("version", "unknown")
        if theirs == __version__:
            raise
        missing = f"{type(error).__name__}: {error}"
        raise StateError(
            f"the forwarder has version {theirs}, this command has version {__version__} "
            f"and cannot show its status ({missing}). Use that version, or add --json"
        ) from error


def _pace(place: Place) -> float:
    """Return the seconds between two statuses."""
    # Where replicas share a journal, each question may be a row in their database.
    return 5.0 if place.shared else 1.0


def _follow(place: Place, *, as_json: bool) -> None:
    """Print a line about each status, for a pipe, a log or kubectl exec without a terminal."""
    while True:
        state = status_of(place)
        if as_json:
            print_json(state, indented=False)
        else:
            with understood(state):
                say(summary(printable_tree(state)))
        # A pipe is buffered: without this a reader sees nothing for minutes.
        sys.stdout.flush()
        Event().wait(_pace(place) if as_json else _LINE_EVERY)


def summary(state: Mapping[str, Any]) -> str:
    """Return a status in one line."""
    lags = [one["lag_seconds"] or 0 for one in state["streams"]]
    backlog = sum(one["backlog_events"] for one in state["sinks"])
    dead = sum(one["dead_letters"] for one in state["sinks"])
    unwell = [
        f"{one[kind]} {one['phase']}"
        for kind, many in (("stream", "streams"), ("sink", "sinks"))
        for one in state[many]
        if one["phase"] in _UNWELL
    ]
    parts = [
        ": ".join(filter(None, (state["state"].replace("_", " "), "; ".join(state["reasons"])))),
        f"lag {format_duration(round(max(lags, default=0)))}",
        f"backlog {backlog:,}",
        f"dead letters {dead:,}",
        f"open gaps {state['gaps']['open']:,}",
        *unwell,
    ]
    return f"{when(now_us())}  {', '.join(parts)}"


def rendered(state: Mapping[str, Any]) -> RenderableType:
    """Return what ``forwarder status`` prints; ``state`` is the answer of /status."""
    # rich escapes markup, and leaves control characters as they are.
    state = printable_tree(state)
    parts = (
        _headline(state),
        _streams(state),
        _pushes(state),
        _troubles(state, "streams", lambda one: f"{one['stream']} of {one['account']}"),
        _sinks(state),
        _troubles(state, "sinks", lambda one: f"sink {one['sink']}"),
        _journal(state),
        _fleet(state),
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
    word = state["state"].replace("_", " ")
    colour = {"ready": "green", "degraded": "yellow"}.get(word, "red")
    reasons = [f"\n  {reason}" for reason in (*state["reasons"], *refusals(state))]
    return Text.assemble((word, f"bold {colour}"), about, *reasons)


def refusals(state: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each fault of the settings file, whose settings are not in force."""
    faults = state.get("settings", {}).get("refused", ())
    return [f"settings are refused: {fault}" for fault in faults]


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


def _pushes(state: Mapping[str, Any]) -> Table | None:
    table = _table("account", "pushed dataset", "last push", "ago", "rows", "oldest row")
    # A daemon that has not been restarted since an upgrade does not list them.
    for one in state.get("pushes", ()):
        table.add_row(
            escape(one["account"]),
            one["dataset"],
            _second(one["last_push"]),
            _seconds(one["last_push_seconds_ago"]),
            f"{one['rows']:,}",
            _seconds(one["oldest_row_seconds"]),
        )
    return table if table.rows else None


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
    """Return a line for each error that the headline lacks: which, what, what to do."""
    # The headline has the reasons already: a fault is shown once.
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
    return Text.assemble(text, (f"  {full(state)}", "red") if journal["gate_closed"] else "")


def full(state: Mapping[str, Any]) -> str:
    """Return what a full journal means: rows are kept for the sink whose oldest event is oldest."""
    waits = [(one["oldest_unacknowledged_seconds"], one["sink"]) for one in state["sinks"]]
    longest, sink = max(waits, default=(0, ""))
    return f"full: nothing is read until {f'sink {sink}' if longest else 'a sink'} catches up"


def _fleet(state: Mapping[str, Any]) -> Table | None:
    """Return who owns the shards of a shared journal, then the replicas that own none."""
    table = _table("shard", "owner", "epoch")
    for one in state.get("shards", ()):
        owner = escape(one["owner"]) or Text("nobody", "red")
        table.add_row(str(one["shard"]), owner, str(one["epoch"]))
    owners = {one["owner"] for one in state.get("shards", ())}
    for one in state.get("replicas", ()):
        if one["name"] not in owners:
            table.add_row("", escape(one["name"]), "stands by")
    for one in state.get("lost_replicas", ()):
        silent = format_duration(round(one["seen_seconds"]))
        table.add_row("", escape(one["name"]), Text(f"lost, last seen {silent} ago", "red"))
    for name in state.get("older_replicas", ()):
        table.add_row("", escape(name), "of an older release, which has to stop first")
    return table if table.rows else None


def _backfills(state: Mapping[str, Any]) -> Table | None:
    table = _table("backfill", "account", "stream", "read until", "to", "done", "rows")
    for one in state["backfills"]:
        table.add_row(
            one["lane"],
            escape(one["account"]),
            one["stream"],
            _second(one["done_until"]),
            _second(one["until"]),
            f"{share_read(one):.0%}",
            f"{one['rows']:,}",
        )
    return table if table.rows else None


def _lanes(state: Mapping[str, Any]) -> Table | None:
    """Return what backfills and replays have yet to deliver."""
    table = _table("lane", "sink", "backlog")
    for sink in state["sinks"]:
        for lane in sink["lanes"]:
            if ":" in lane["lane"]:  # backfill:..., replay:...; not `live`
                table.add_row(lane["lane"], escape(sink["sink"]), f"{lane['backlog_events']:,}")
    return table if table.rows else None


def _letters(state: Mapping[str, Any]) -> RenderableType | None:
    table = _table("dead letters", "sink", "latest", "reason")
    for one in state["dead_letters"]:
        events, reason = f"{one['events']:,}", escape(one["reason"])
        table.add_row(events, escape(one["sink"]), _second(one["latest"]), reason)
    return Group(table, "see forwarder dead-letters list") if table.rows else None


def _gaps(state: Mapping[str, Any]) -> RenderableType | None:
    """Return the open gaps as a table; the closed ones are only counted."""
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
    return Group(table, "see forwarder gaps list")


def share_read(one: Mapping[str, Any]) -> float:
    """Return the share of a backfill's window that was read, from 0 to 1."""
    since, done, until = (parse_us(one[key]) or 0 for key in ("since", "done_until", "until"))
    return 1.0 if until <= since else (done - since) / (until - since)


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
