"""``forwarder verify``: what became of every row of a window."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from forwarder.core.journal import COUNTS

if TYPE_CHECKING:
    from forwarder.runtime.verifying import Audit, PushAudit

_COMPARED = ("polled", "pushed", "both", "forgotten", "not_pushed", "not_polled")


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

    For each sink: rows shown, delivered, in the dead letters, waiting (in the journal and not yet
    acknowledged, or left to the next poll), skipped (stored before the sink began, or dropped from
    its dead letters), forgotten, missing. Rows that a sink's own filters exclude count as
    delivered. If the next poll is overdue, rows that were not read are missing. If logins are both
    polled and pushed, the two logs are compared. Changes nothing; uses requests of the same token.
    The journal keeps identities for as long as a reader may see the rows again (a day with the
    default settings); what became of older rows is forgotten.

    Example: `forwarder verify --since 6h --sink splunk`

    Exit status: 0 if nothing is missing or forgotten and no login is in one log only, 1 if
    something is or Cloudflare could not be read, 2 if the settings or the choice have faults.
    """
    from forwarder.core.contracts import Window  # noqa: PLC0415 - keeps --help fast
    from forwarder.runtime import verifying  # noqa: PLC0415 - imports everything

    settings = settings_from(config)
    labels = {account.account_id: account.label for account in settings.accounts}
    chosen = verifying.Choice(choice["accounts"], choice["streams"], choice["sinks"])
    refuse_unknown("account", chosen.accounts, {*labels, *labels.values()})
    refuse_unknown("sink", chosen.sinks, {sink.name for sink in settings.sinks})
    # Here and not in the daemon: an audit must not rely on what it audits.
    period = Window(*window(since, until))
    found = asyncio.run(verifying.audit(settings, period, chosen))
    pushes = asyncio.run(verifying.audit_pushes(settings, period, chosen))
    # Afterwards: only the audit knows which streams each source has.
    known = {one.stream for one in found} | {one.stream for one in pushes}
    refuse_unknown("stream", chosen.streams, known)
    rows, compared = [_row(one) for one in found], [_compared(one) for one in pushes]
    if as_json:
        print_json([*rows, *compared])
    else:
        _table(("account", "stream", "sink", *COUNTS), rows)
        if compared:
            _table(("account", "stream", *_COMPARED), compared)
        for line in (*advice(found), *_advice_on(pushes)):
            tell(f"forwarder: {line}")
    wrong = [row[column] for row in rows for column in ("missing", "forgotten")]
    wrong += [row[column] for row in compared for column in _COMPARED[-3:]]
    sys.exit(1 if any(wrong) else 0)


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    cells = [[str(row[column]) for column in columns] for row in rows]
    shown = [column.replace("_", " ") for column in columns]
    show(shown, cells, nothing="no stream and no sink matches")


def _row(audit: Audit) -> dict[str, Any]:
    names = {"account": audit.account, "stream": audit.stream, "sink": audit.sink}
    return {**names, **_readable(asdict(audit.verdict))}


def _compared(audit: PushAudit) -> dict[str, Any]:
    names = {"account": audit.account, "stream": audit.stream, "sink": None}
    return {**names, **_readable(asdict(audit.found))}


def _readable(counts: dict[str, Any]) -> dict[str, Any]:
    """Return counts as they are, and moments (keys that end in ``_us``) in RFC 3339."""
    return {
        key.removesuffix("_us"): when(value, exact=True)
        if key.endswith("_us") and value is not None
        else value
        for key, value in counts.items()
    }


def _advice_on(pushes: Collection[PushAudit]) -> Iterator[str]:
    """Yield what to do about logins that only one of the logs has."""
    for one in pushes:
        first, last = one.found.first_not_pushed_us, one.found.last_not_pushed_us
        if first is not None and last is not None:
            yield (
                f"{one.account}: {one.found.not_pushed} logins between {when(first)} and "
                f"{when(last + 1_000_000)} were polled and not pushed: nobody sends them again. "
                "`forwarder logpush job --check` shows whether the job is enabled, and its errors"
            )
        if one.found.not_polled:
            yield (
                f"{one.account}: {one.found.not_polled} logins were pushed, and the API does not "
                "show them: they are older than the API keeps them, or it does not have them yet"
            )
        if one.found.forgotten:
            yield (
                f"{one.account}: {one.found.forgotten} logins cannot be compared: the journal "
                "keeps what was pushed for journal.keep_delivered. Begin later"
            )


def advice(found: Collection[Audit]) -> Iterator[str]:
    """Yield what to do about rows that are missing or whose fate is unknown."""
    for one in found:
        first, last = one.verdict.first_missing_us, one.verdict.last_missing_us
        if first is None or last is None or not one.joined:
            continue
        covered = one.covered_until_us
        if covered is None or first >= covered:
            # A backfill would deliver them a second time once they are read.
            where = "nothing was read" if covered is None else f"it is read until {when(covered)}"
            yield (
                f"{one.account}/{one.stream}: {one.verdict.missing} rows since {when(first)} have "
                f"not reached {one.sink}: {where} so far, and a running forwarder reads them. "
                "`forwarder status` shows what stops the stream, if anything does"
            )
        else:
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
