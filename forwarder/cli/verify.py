"""``forwarder verify``."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

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

_COUNTS = ("shown", "delivered", "dead", "waiting", "missing")


@click.command()
@config_option
@json_option
@click.option("--since", required=True, type=MomentType(), help="RFC 3339, or a duration ago.")
@click.option("--until", type=MomentType(), default="2m", help="The same; default: 2m ago.")
@choice_options("account", "stream", "sink")
def command(config: Path, *, as_json: bool, since: int, until: int, **choice: Any) -> None:
    """Re-read a window from Cloudflare and say what became of every row that it shows.

    For each sink: rows shown, delivered, in the dead letters, waiting (in the journal, not yet
    acknowledged), missing. Rows that a sink's own filters leave out count as delivered. Changes
    nothing; spends requests of the same token. The journal knows identities for as long as a
    reader may be shown the rows again (a day with the default settings).

    Exit status: 0 when nothing is missing, 1 when something is.
    """
    from forwarder.core.model import Window  # noqa: PLC0415 - keeps --help fast
    from forwarder.runtime.auditing import Choice, audit  # noqa: PLC0415 - imports everything

    settings = settings_from(config)
    chosen = Choice(choice["accounts"], choice["streams"], choice["sinks"])
    found = asyncio.run(audit(settings, Window(*window(since, until)), chosen))
    rows: list[dict[str, Any]] = [
        {"account": one.account, "stream": one.stream, "sink": one.sink, **asdict(one.verdict)}
        for one in found
    ]
    if as_json:
        print_json(rows)
    else:
        columns = ("account", "stream", "sink", *_COUNTS)
        cells = [tuple(str(row[column]) for column in columns) for row in rows]
        show(columns, cells, nothing="no stream and no sink matches")
    sys.exit(1 if any(row["missing"] for row in rows) else 0)
