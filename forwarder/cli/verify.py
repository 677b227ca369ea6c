"""``forwarder verify``."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forwarder.cli.options import (
    MomentType,
    choice_options,
    config_option,
    json_option,
    print_json,
    settings_from,
    window,
)
from forwarder.cli.tables import show

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings
    from forwarder.runtime.auditing import Audit

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
    from forwarder.core.model import Window  # noqa: PLC0415 - keeps --help fast
    from forwarder.runtime.auditing import Choice, audit  # noqa: PLC0415 - imports everything

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
    from forwarder.core.timestamps import format_us  # noqa: PLC0415 - keeps --help fast

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
    from forwarder.core.timestamps import format_seconds  # noqa: PLC0415 - keeps --help fast

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
