"""A progress bar for backfills: how far, how many rows, how fast, how long still."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from forwarder.cli.options import (
    MomentType,
    choice_options,
    config_option,
    json_option,
    print_json,
    settings_from,
    show,
    window,
)
from forwarder.core.timing import parse_us

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings
    from forwarder.runtime.inspection import Audit


_KIND = "backfill:"


class Bar:
    """Draws on stderr while the block runs."""

    def __init__(self) -> None:
        """Draw nothing yet."""
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
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture on the screen."""
        self._progress.stop()

    def show(self, status: Mapping[str, Any]) -> None:
        """Draw a status as the daemon gives it."""
        reading = status["backfills"]
        if reading:
            self.rows = sum(one["rows"] for one in reading)
        done = sum(map(_share, reading)) / len(reading) if reading else 1.0
        spent = max(0.001, time.monotonic() - self._began)
        left = sum(lane["backlog_events"] for lane in _lanes(status, _KIND))
        self._progress.update(
            self._task, completed=done, rows=self.rows, rate=self.rows / spent, left=left
        )


def is_open(status: Mapping[str, Any], lane: str) -> bool:
    """Return whether a lane is still read or delivered."""
    reading = any(one["lane"] == lane for one in status["backfills"])
    return reading or bool(_lanes(status, lane))


def _lanes(status: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [
        lane for sink in status["sinks"] for lane in sink["lanes"] if lane["lane"].startswith(name)
    ]


def _share(one: Mapping[str, str]) -> float:
    """Return how much of the window is read, 0 to 1."""
    since, until, done = (parse_us(one[key]) or 0 for key in ("since", "until", "done_until"))
    return 1.0 if until <= since else (done - since) / (until - since)


_COUNTS = ("shown", "delivered", "dead", "waiting", "skipped", "forgotten", "missing")


@click.command()
@config_option
@json_option
@click.option("--since", required=True, type=MomentType(), help="RFC 3339, or a duration ago.")
@click.option("--until", type=MomentType(), default="2m", help="The same; default: 2m ago.")
@choice_options("account", "stream", "sink")
def command(config: Path, *, as_json: bool, since: int, until: int, **choice: Any) -> None:
    """Re-read a window from Cloudflare and say what became of every row that it shows.

    For each sink: rows shown, delivered, in the dead letters, waiting (in the journal, not yet
    acknowledged), skipped (stored before the sink began, or discarded from its dead letters),
    forgotten, missing. Rows that a sink's own filters leave out count as delivered. Changes
    nothing; spends requests of the same token. The journal knows identities for as long as a
    reader may be shown the rows again (a day with the default settings); what is older is
    forgotten, and nobody can say what became of it.

    Exit status: 0 when nothing is missing or forgotten, 1 when something is or Cloudflare could not
    be asked, 2 when the settings or the choice have faults.
    """
    from forwarder.core.contracts import Window  # noqa: PLC0415 - keeps --help fast
    from forwarder.runtime.inspection import Choice, audit  # noqa: PLC0415 - imports everything

    settings = settings_from(config)
    chosen = Choice(choice["accounts"], choice["streams"], choice["sinks"])
    _known("account", chosen.accounts, _accounts(settings))
    _known("sink", chosen.sinks, {sink.name for sink in settings.sinks})
    found = asyncio.run(audit(settings, Window(*window(since, until)), chosen))
    _known("stream", chosen.streams, {one.stream for one in found})
    rows = [_row(one) for one in found]
    if as_json:
        print_json(rows)
    else:
        columns = ("account", "stream", "sink", *_COUNTS)
        cells = [tuple(str(row[column]) for column in columns) for row in rows]
        show(columns, cells, nothing="no stream and no sink matches")
        for line in _advice(found):
            click.echo(f"forwarder: {line}", err=True)
    sys.exit(1 if any(row["missing"] or row["forgotten"] for row in rows) else 0)


def _accounts(settings: ForwarderSettings) -> set[str]:
    return {name for account in settings.accounts for name in (account.account_id, account.label)}


def _known(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse a name that nothing has: an audit of nothing must not look like a good one."""
    unknown = sorted({*given} - {*known})
    if unknown:
        names = f"; there is {', '.join(sorted(known))}" if known else ""
        raise click.UsageError(f"no {what} is called {', '.join(unknown)}{names}")


def _row(audit: Audit) -> dict[str, Any]:
    from forwarder.core.timing import format_us  # noqa: PLC0415 - keeps --help fast

    counts = asdict(audit.verdict)
    first, last = (counts.pop(f"{end}_missing_us") for end in ("first", "last"))
    return {
        "account": audit.account,
        "stream": audit.stream,
        "sink": audit.sink,
        **counts,
        "first_missing": None if first is None else format_us(first),
        "last_missing": None if last is None else format_us(last),
    }


def _advice(found: Sequence[Audit]) -> Iterator[str]:
    """Say what to do about rows that are missing, or of which nobody can say anything."""
    from forwarder.core.timing import format_seconds  # noqa: PLC0415 - keeps --help fast

    for one in found:
        first, last = one.verdict.first_missing_us, one.verdict.last_missing_us
        if first is not None and last is not None and one.joined:
            since, until = format_seconds(first), format_seconds(last + 1_000_000)
            choice = shlex.join(
                ["--account", one.account, "--stream", one.stream, "--sink", one.sink]
            )
            yield (
                f"{one.account}/{one.stream}: {one.verdict.missing} rows between {since} and "
                f"{until} never reached {one.sink}. `forwarder gaps list` says what is known to be "
                f"lost; `forwarder backfill --again --since {since} --until {until} {choice}` "
                "delivers that time again"
            )
    for sink in dict.fromkeys(one.sink for one in found if not one.joined):
        yield (
            f"the journal does not know the sink {sink} yet, so that it got nothing: start the "
            "daemon with these settings, or reload it"
        )
    if any(one.verdict.forgotten for one in found):
        yield (
            "what is forgotten is older than the identities in the journal: nothing says that it "
            "is missing, or that it is not. Begin later, or compare with the SIEM"
        )
