"""``forwarder cursors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from forwarder.cli.options import (
    MomentType,
    carry_out,
    config_option,
    json_option,
    print_json,
    read,
    settings_from,
    show,
    when,
    yes_option,
)

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings


@click.group(name="cursors")
def command() -> None:
    """How far every reader of every stream is."""


@command.command("list")
@config_option
@json_option
def list_command(config: Path, *, as_json: bool) -> None:
    """List the positions. `live` is the one that counts; the others re-read what it has read."""
    from forwarder.journal.stream_log import list_cursors  # noqa: PLC0415 - keeps --help fast

    settings = settings_from(config)
    labels = {account.account_id: account.label for account in settings.accounts}
    cursors = read(settings.root.state_dir, list_cursors)
    rows = [
        {
            "account": labels.get(cursor.account_id, cursor.account_id),
            "stream": cursor.stream,
            "reader": cursor.reader,
            "covered_until": when(cursor.covered_until_us),
            "reading_until": when(cursor.reading_until_us) if cursor.reading_until_us else "",
        }
        for cursor in cursors
    ]
    if as_json:
        print_json(rows)
        return
    columns = ("account", "stream", "reader", "covered_until", "reading_until")
    show(
        columns,
        [tuple(row[column] for column in columns) for row in rows],
        nothing="no positions yet",
    )


@command.command("set")
@config_option
@yes_option
@click.option("--account", required=True, help="Label or id of the account.")
@click.option("--stream", required=True, help="Name of the stream.")
@click.option("--to", "to_us", required=True, type=MomentType(), help="RFC 3339, or a duration ago")
def set_command(config: Path, *, account: str, stream: str, to_us: int, yes: bool) -> None:
    """Move the live position of a stream.

    Forward, the rows between are not read: that is written into the gap ledger. Back, rows are
    read again and delivered only if they were not seen before.
    """
    from forwarder.core.timing import SystemClock  # noqa: PLC0415 - keeps --help fast

    settings = settings_from(config)
    account_id = _account_id(settings, account)
    if to_us > SystemClock().now_us():
        raise click.UsageError("--to lies in the future: rows that are not there yet would be lost")
    if not yes:
        click.confirm(
            f"Move {account}/{stream} to {when(to_us)}? Rows that are jumped over are not read.",
            abort=True,
        )
    given = {"account_id": account_id, "stream": stream, "to_us": to_us}
    answer = carry_out(settings, "cursor-set", given)
    click.echo(f"{account}/{stream}: covered until {answer['covered_until']}")


def _account_id(settings: ForwarderSettings, name: str) -> str:
    for account in settings.accounts:
        if name in {account.account_id, account.label}:
            return account.account_id
    known = ", ".join(account.label for account in settings.accounts)
    raise click.UsageError(f"there is no account {name!r}; the settings have {known}")
