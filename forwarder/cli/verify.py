"""``forwarder verify``: what became of every row of a window."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forwarder.cli.access import settings_from
from forwarder.cli.terminal import (
    MomentType,
    choice_options,
    config_option,
    json_option,
    print_json,
    refuse_unknown,
    show,
    since_option,
    tell,
    when,
    window,
)

if TYPE_CHECKING:
    from forwarder.runtime.inspection import Audit

_COUNTS = ("shown", "delivered", "dead", "waiting", "skipped", "forgotten", "missing")


@click.command()
@config_option
@json_option
@since_option(required=True)
@click.option(
    "--until",
    type=MomentType(),
    default="2m",
    help="RFC 3339 time, or a duration ago; default: 2m ago.",
)
@choice_options("account", "stream", "sink")
def command(config: Path, *, as_json: bool, since: int, until: int, **choice: Any) -> None:
    """Re-read a window from Cloudflare and report what became of every row in it.

    For each sink: rows shown, delivered, in the dead letters, waiting (in the journal, not yet
    acknowledged), skipped (stored before the sink began, or dropped from its dead letters),
    forgotten, missing. Rows that a sink's own filters exclude count as delivered. Changes nothing;
    uses requests of the same token. The journal keeps identities for as long as a reader may see
    the rows again (a day with the default settings); older rows are forgotten, so that their fate
    is unknown.

    Exit status: 0 if nothing is missing or forgotten, 1 if something is or Cloudflare could not be
    read, 2 if the settings or the choice have faults.
    """
    from forwarder.core.contracts import Window  # noqa: PLC0415 - keeps --help fast
    from forwarder.runtime.inspection import Choice, audit  # noqa: PLC0415 - imports everything

    settings = settings_from(config)
    labels = {account.account_id: account.label for account in settings.accounts}
    chosen = Choice(choice["accounts"], choice["streams"], choice["sinks"])
    refuse_unknown("account", chosen.accounts, {*labels, *labels.values()})
    refuse_unknown("sink", chosen.sinks, {sink.name for sink in settings.sinks})
    # Here and not in the daemon: an audit must not rely on what it audits.
    found = asyncio.run(audit(settings, Window(*window(since, until)), chosen))
    # Afterwards: only the audit knows which streams each source has.
    refuse_unknown("stream", chosen.streams, {one.stream for one in found})
    rows = [_row(one) for one in found]
    if as_json:
        print_json(rows)
    else:
        columns = ("account", "stream", "sink", *_COUNTS)
        cells = [tuple(str(row[column]) for column in columns) for row in rows]
        show(columns, cells, nothing="no stream and no sink matches")
        for line in _advice(found):
            tell(f"forwarder: {line}")
    sys.exit(1 if any(row["missing"] or row["forgotten"] for row in rows) else 0)


def _row(audit: Audit) -> dict[str, Any]:
    counts = asdict(audit.verdict)
    first, last = (counts.pop(f"{end}_missing_us") for end in ("first", "last"))
    return {
        "account": audit.account,
        "stream": audit.stream,
        "sink": audit.sink,
        **counts,
        "first_missing": None if first is None else when(first, exact=True),
        "last_missing": None if last is None else when(last, exact=True),
    }


def _advice(found: Collection[Audit]) -> Iterator[str]:
    """Yield what to do about rows that are missing or whose fate is unknown."""
    for one in found:
        first, last = one.verdict.first_missing_us, one.verdict.last_missing_us
        if first is not None and last is not None and one.joined:
            # The end of a window is exclusive, and `when` cuts to the second.
            since, until = when(first), when(last + 1_000_000)
            choice = shlex.join(
                ["--account", one.account, "--stream", one.stream, "--sink", one.sink]
            )
            yield (
                f"{one.account}/{one.stream}: {one.verdict.missing} rows between {since} and "
                f"{until} never reached {one.sink}. `forwarder gaps list` shows what is known to "
                f"be lost; `forwarder backfill --again --since {since} --until {until} {choice}` "
                "delivers that time again"
            )
    for sink in dict.fromkeys(one.sink for one in found if not one.joined):
        yield (
            f"the journal does not know the sink {sink} yet, so the sink received nothing: start "
            "the daemon with these settings, or reload it"
        )
    if any(one.verdict.forgotten for one in found):
        yield (
            "forgotten rows are older than the identities in the journal: they may have been "
            "delivered or not. Begin later, or compare with the SIEM"
        )
