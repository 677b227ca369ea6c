"""``forwarder backfill``: read an older window, and show how far it is."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from forwarder.cli.access import (
    Place,
    backfill,
    carry_out,
    lanes_of,
    place_from,
    progress_of,
    rows_of,
    settings_from,
)
from forwarder.cli.status import share_read
from forwarder.cli.terminal import (
    MomentType,
    choice_options,
    config_option,
    confirm,
    lane_option,
    now_us,
    refuse_unknown,
    say,
    since_option,
    tell,
    when,
    window,
    yes_option,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

    from forwarder.config.models import ForwarderSettings

_KIND = "backfill:"
_LOOK = 0.5
_SHARED_LOOK = 2.0
"""Seconds between two requests for progress; each is a write to the database of the journal."""
_LINE_EVERY = 10.0
"""Seconds between lines of progress where there is no terminal."""


@click.command()
@config_option
@since_option(required=False)
@click.option(
    "--until",
    type=MomentType(),
    default="0",
    help="RFC 3339 time, or a duration ago; default: now.",
)
@click.option("--again", is_flag=True, help="Also deliver rows that were seen before.")
@click.option("--detach", is_flag=True, help="Leave it to the daemon and return at once.")
@lane_option
@click.option("--cancel", metavar="LANE", help="Stop a backfill or a replay instead.")
@yes_option
@choice_options("account", "stream", "sink")
def command(config: Path, *, cancel: str | None, detach: bool, yes: bool, **given: Any) -> None:
    """Read an older window from Cloudflare and deliver it behind live events.

    A running daemon does the work; if no daemon runs, this process does. The live position does not
    move. Rows that were seen before are skipped unless --again is given. If the command is
    interrupted, the daemon continues the backfill. If --since is older than `retention`, it asks
    first.

    Example: `forwarder backfill --since 3d --until 2d --again --sink splunk`
    """
    if cancel is not None:
        _cancel(place_from(config), cancel)
        return
    if given["since"] is None:
        raise click.UsageError("--since is missing")
    since_us, until_us = window(given["since"], given["until"])
    order = {
        "since_us": since_us,
        "until_us": until_us,
        "again": given["again"],
        "accounts": given["accounts"],
        "streams": given["streams"],
        "sinks": given["sinks"],
        "lane": given["lane"],
    }
    settings = settings_from(config)
    place = place_from(config)
    _check_choice(settings, order)
    _ask_beyond_retention(settings, order, yes=yes)
    with Bar() as bar:
        answer, taken_over = backfill(place, settings, order, detach=detach, watch=bar.show)
        if taken_over:
            tell(f"lane {answer['lane']}: {', '.join(answer['streams'])}")
        if detach:
            return
        if taken_over:
            asyncio.run(_watch(place, answer["lane"], bar))
            # The last status may be older than the last row.
            answer = rows_of(place, answer)
        bar.end(answer["rows"])
    known = "" if order["again"] else " that were not known; --again delivers the others as well"
    say(f"{answer['lane']}: done, {answer['rows']} row(s){known}")


def _cancel(place: Place, lane: str) -> None:
    # The live lane has no kind in its name, and cannot be cancelled.
    open_lanes = [one.name for one in lanes_of(place) if one.state == "open" and ":" in one.name]
    refuse_unknown("open lane", [lane], open_lanes)
    answer = carry_out(place, "lane-cancel", {"lane": lane})
    say(
        f"{answer['lane']} is cancelled; what was delivered stays. "
        f"{answer['found_again']} row(s) will be found again by the streams' own readers, "
        f"{answer['lost']} event(s) are lost (forwarder gaps list)"
    )
    if answer["returned"]:
        say(f"{answer['returned']} event(s) are dead letters again")


def _check_choice(settings: ForwarderSettings, order: Mapping[str, Any]) -> None:
    accounts = settings.accounts
    names = [name for one in accounts for name in (one.account_id, one.label)]
    refuse_unknown("account", order["accounts"], names)
    refuse_unknown("sink", order["sinks"], [sink.name for sink in settings.sinks])
    streams = [name for one in accounts for name, on in one.config.streams if on]
    refuse_unknown("stream", order["streams"], streams)


def _ask_beyond_retention(
    settings: ForwarderSettings, order: Mapping[str, Any], *, yes: bool
) -> None:
    """Ask before hours of requests for rows that Cloudflare has deleted."""
    for account in settings.accounts:
        if order["accounts"] and not {account.account_id, account.label} & {*order["accounts"]}:
            continue
        kept_from = now_us() - round(account.config.retention * 1_000_000)
        # A minute of grace: `--since 24h` was typed a moment ago.
        if order["since_us"] < kept_from - 60_000_000:
            confirm(
                f"--since is {when(order['since_us'])}, but by `retention` {account.label} has its "
                f"logs since {when(kept_from)} only: reading the time before uses up requests and "
                "most likely finds nothing. Read it anyway?",
                yes=yes,
            )


async def _watch(place: Place, lane: str, bar: Bar) -> None:
    """Show the daemon's status until the lane is delivered."""
    # In a thread: asking blocks, and Ctrl-C should end this at once.
    while is_open(status := await asyncio.to_thread(progress_of, place), lane):
        bar.show(status)
        await asyncio.sleep(_SHARED_LOOK if place.shared else _LOOK)


class Bar:
    """Progress on stderr: a bar on a terminal, otherwise a line now and then."""

    def __init__(self, line_every: float = _LINE_EVERY) -> None:
        """Draw nothing until there is something to show."""
        self._line_every = line_every
        self._began = self._line_at = time.monotonic()
        self._drawn: Progress | None = None

    def __enter__(self) -> Self:
        """Change nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture on the screen."""
        if self._drawn is not None:
            self._drawn.stop()

    def show(self, status: Mapping[str, Any]) -> None:
        """Show the progress of all backfills in a status."""
        reading = status["backfills"]
        rows = sum(one["rows"] for one in reading)
        # Between the end of reading and that of delivery there is no reader any more.
        done = sum(map(share_read, reading)) / len(reading) if reading else 1.0
        rate = rows / max(0.001, time.monotonic() - self._began)
        left = sum(lane["backlog_events"] for lane in _lanes(status, _KIND))
        if sys.stderr.isatty():
            self._draw(done, f"{rows} rows, {rate:.0f}/s, {left} to deliver")
        elif time.monotonic() - self._line_at >= self._line_every:
            self._line_at = time.monotonic()
            tell(f"backfill: {done:.0%} read, {rows} rows, {rate:.0f}/s, {left} to deliver")

    def end(self, rows: int) -> None:
        """Fill the bar, if one was drawn."""
        if self._drawn is not None:
            self._draw(1.0, f"{rows} rows")

    def _draw(self, done: float, counts: str) -> None:
        from rich.progress import Progress  # noqa: PLC0415 - slow to import

        if self._drawn is None:
            self._drawn = Progress(*_columns(), console=_stderr())
            self._drawn.add_task("backfill", total=1.0, counts="")
            self._drawn.start()
        self._drawn.update(self._drawn.task_ids[0], completed=done, counts=counts)


def _columns() -> tuple[ProgressColumn, ...]:
    from rich.progress import (  # noqa: PLC0415 - slow to import
        BarColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    share, counts = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[counts]}")
    return TextColumn("{task.description}"), BarColumn(), share, counts, TimeRemainingColumn()


def _stderr() -> Console:
    from rich.console import Console  # noqa: PLC0415 - slow to import

    return Console(stderr=True)


def is_open(status: Mapping[str, Any], lane: str) -> bool:
    """Return True while a lane is read or delivered, or a shard that may have it has not said."""
    if not all(one["here"] for one in status["shards"]):
        return True
    reading = any(one["lane"] == lane for one in status["backfills"])
    return reading or bool(_lanes(status, lane))


def _lanes(status: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [
        lane for sink in status["sinks"] for lane in sink["lanes"] if lane["lane"].startswith(name)
    ]
