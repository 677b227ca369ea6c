"""``forwarder gaps``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forwarder.cli.options import (
    config_option,
    json_option,
    print_json,
    read,
    settings_from,
    show,
    when,
)

if TYPE_CHECKING:
    from forwarder.journal.ledger import Gap


@click.group(name="gaps")
def command() -> None:
    """What was lost, or may have been: the gap ledger."""


@command.command("list")
@config_option
@json_option
def list_command(config: Path, *, as_json: bool) -> None:
    """List every gap, oldest first. Exit status 0, also when there are some."""
    from forwarder.journal.events import with_name  # noqa: PLC0415 - keeps --help fast
    from forwarder.journal.ledger import list_gaps  # noqa: PLC0415 - keeps --help fast

    settings = settings_from(config)
    gaps = read(settings.root.state_dir, list_gaps)
    if as_json:
        print_json([_as_json(gap) for gap in gaps])
        return
    labels = {account.account_id: account.label for account in settings.accounts}
    show(
        ("scope", "reason", "from", "to", "rows", "opened", "closed", "detail"),
        [
            (
                with_name(gap.scope, labels),
                gap.reason,
                when(gap.since_us),
                when(gap.until_us),
                "?" if gap.rows is None else str(gap.rows),
                when(gap.opened_us),
                when(gap.closed_us) if gap.closed_us else "open",
                gap.detail,
            )
            for gap in gaps
        ],
        nothing="no gaps: nothing is known to be lost",
    )


def _as_json(gap: Gap) -> dict[str, Any]:
    value = asdict(gap)
    for key in ("since_us", "until_us", "opened_us", "closed_us"):
        time_us = value.pop(key)
        value[key.removesuffix("_us")] = None if time_us is None else when(time_us)
    return value
