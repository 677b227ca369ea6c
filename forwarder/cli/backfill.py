"""``forwarder backfill``: read an older window, and show how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import click

from forwarder.cli.access import backfill, carry_out, settings_from, status_of
from forwarder.cli.status import share_read
from forwarder.cli.terminal import (
    MomentType,
    choice_options,
    config_option,
    say,
    since_option,
    tell,
    window,
)

_KIND = "backfill:"
_LOOK = 0.5


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
@click.option("--cancel", metavar="LANE", help="Stop a backfill or a replay instead.")
@choice_options("account", "stream", "sink")
def command(config: Path, *, cancel: str | None, detach: bool, **given: Any) -> None:
    """Read an older window from Cloudflare and deliver it behind live events.

    A running daemon does the work; if none runs, this process does. The live position does not
    move. Rows that were seen before are skipped unless --again is given. If it is interrupted, the
    daemon continues it.
    """
    settings = settings_from(config)
    if cancel is not None:
        answer = carry_out(settings, "lane-cancel", {"lane": cancel})
        say(f"{answer['lane']} is cancelled; what was delivered stays")
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
    }
    with Bar() as bar:
        answer, taken_over = backfill(settings, order, detach=detach, watch=bar.show)
        if taken_over:
            tell(f"lane {answer['lane']}: {', '.join(answer['streams'])}")
        if detach:
            return
        if taken_over:
            asyncio.run(_watch(settings.root.state_dir, answer["lane"], bar))
    known = "" if order["again"] else " that were not known; --again delivers the others as well"
    say(f"{answer['lane']}: done, {bar.rows} row(s){known}")


async def _watch(state_dir: Path, lane: str, bar: Bar) -> None:
    """Show the daemon's status until the lane is delivered."""
    while is_open(status := await asyncio.to_thread(status_of, state_dir), lane):
        bar.show(status)
        await asyncio.sleep(_LOOK)


class Bar:
    """A progress bar on stderr: how far, how many rows, how fast, how long still."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        from rich.console import Console  # noqa: PLC0415 - slow to import
        from rich.progress import (  # noqa: PLC0415 - as above
            BarColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.rows = 0
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rows]} rows, {task.fields[rate]:.0f}/s"),
            TextColumn("{task.fields[left]} to deliver"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("backfill", total=1.0, rows=0, rate=0.0, left=0)

    def __enter__(self) -> Self:
        """Draw nothing until there is something to show."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture on the screen."""
        self._progress.stop()

    def show(self, status: Mapping[str, Any]) -> None:
        """Draw a status as the daemon gives it."""
        self._progress.start()
        reading = status["backfills"]
        if reading:
            self.rows = sum(one["rows"] for one in reading)
        done = sum(map(share_read, reading)) / len(reading) if reading else 1.0
        spent = max(0.001, time.monotonic() - self._began)
        left = sum(lane["backlog_events"] for lane in _lanes(status, _KIND))
        self._progress.update(
            self._task, completed=done, rows=self.rows, rate=self.rows / spent, left=left
        )


def is_open(status: Mapping[str, Any], lane: str) -> bool:
    """Return True while a lane is read or delivered."""
    reading = any(one["lane"] == lane for one in status["backfills"])
    return reading or bool(_lanes(status, lane))


def _lanes(status: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [
        lane for sink in status["sinks"] for lane in sink["lanes"] if lane["lane"].startswith(name)
    ]
