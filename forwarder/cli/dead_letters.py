"""``forwarder dead-letters``."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import click

from forwarder.cli.options import (
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

_ids = click.argument("ids", nargs=-1, type=int)
_sink = click.option("--sink", required=True, help="Name of the sink.")


@click.group(name="dead-letters")
def command() -> None:
    """Events that a sink refused for good: kept raw, with the reason."""


@command.command("list")
@config_option
@json_option
@click.option("--sink", help="Only this sink.")
@click.option("--limit", default=100, show_default=True, help="How many at the most.")
def list_command(config: Path, *, as_json: bool, sink: str | None, limit: int) -> None:
    """List dead letters, oldest first, without their content."""
    letters = _letters(config, sink=sink, limit=limit)
    if as_json:
        print_json([{k: v for k, v in letter.items() if k != "row"} for letter in letters])
        return
    columns = ("id", "sink", "account", "stream", "died", "size", "reason")
    show(
        columns,
        [tuple(str(letter[column]) for column in columns) for letter in letters],
        nothing="no dead letters",
    )


@command.command("show")
@config_option
@click.argument("letter_id", metavar="ID", type=int)
def show_command(config: Path, *, letter_id: int) -> None:
    """Show one dead letter with its raw row, as JSON."""
    letters = _letters(config, letter_id=letter_id)
    if not letters:
        raise click.UsageError(f"there is no dead letter {letter_id}")
    print_json(letters[0])


@command.command("replay")
@config_option
@_sink
@_ids
def replay_command(config: Path, *, sink: str, ids: tuple[int, ...]) -> None:
    """Deliver dead letters again (all of a sink, or some), rendered with today's settings."""
    given = {"sink": sink, "ids": list(ids) or None}
    answer = carry_out(settings_from(config), "dead-letters-replay", given)
    if answer["events"]:
        click.echo(f"{answer['events']} event(s) in lane {answer['lane']}, behind live ones")
    else:
        click.echo(_none(sink, ids))


@command.command("drop")
@config_option
@yes_option
@_sink
@_ids
def drop_command(config: Path, *, sink: str, ids: tuple[int, ...], yes: bool) -> None:
    """Forget dead letters (all of a sink, or some). They are gone then."""
    if not yes:
        what = f"{len(ids)} dead letter(s)" if ids else "ALL dead letters"
        click.confirm(f"Forget {what} of {sink}?", abort=True)
    given = {"sink": sink, "ids": list(ids) or None}
    answer = carry_out(settings_from(config), "dead-letters-drop", given)
    forgotten = f"{answer['events']} dead letter(s) forgotten"
    click.echo(forgotten if answer["events"] else _none(sink, ids))


def _none(sink: str, ids: tuple[int, ...]) -> str:
    return f"{sink} has no dead letters" + (" of these numbers" if ids else "")


def _letters(config: Path, **choice: Any) -> list[dict[str, Any]]:
    from forwarder.journal.dead_letters import (  # noqa: PLC0415 - keeps --help fast
        StoredLetter,
        list_letters,
        sink_number,
    )

    settings = settings_from(config)
    labels = {account.account_id: account.label for account in settings.accounts}

    def question(connection: sqlite3.Connection) -> list[StoredLetter]:
        if choice.get("sink"):
            sink_number(connection, choice["sink"])
        return list_letters(connection, **choice)

    return [
        {
            "id": letter.id,
            "sink": letter.sink,
            "account": labels.get(letter.account_id, letter.account_id),
            "stream": letter.stream,
            "died": when(letter.at_us),
            "event_id": letter.event_id,
            "time": when(letter.time_us),
            "size": "" if letter.size is None else letter.size,
            "reason": letter.reason,
            "row": _parsed(letter.row),
        }
        for letter in read(settings.root.state_dir, question)
    ]


def _parsed(row: bytes) -> Any:
    import orjson  # noqa: PLC0415 - keeps --help fast

    return orjson.loads(row)
