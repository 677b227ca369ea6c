"""What an operator does with a journal: cursors, gaps, dead letters, replays."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forwarder.cli.access import carry_out, labels_of, read, settings_from
from forwarder.cli.terminal import (
    MomentType,
    config_option,
    json_option,
    now_us,
    print_json,
    say,
    show,
    since_option,
    when,
    yes_option,
)

if TYPE_CHECKING:
    from forwarder.journal.ledger import Gap

_ids = click.argument("ids", nargs=-1, type=int)
_sink = click.option("--sink", required=True, help="Name of the sink.")


@click.group()
def cursors() -> None:
    """How far each reader of each stream has read."""


@cursors.command("list")
@config_option
@json_option
def list_cursors(config: Path, *, as_json: bool) -> None:
    """List the positions. `live` is the stream's position; other readers re-read behind it."""
    from forwarder.journal import stream_log  # noqa: PLC0415 - keeps --help fast

    settings = settings_from(config)
    labels = labels_of(settings)
    rows = [
        {
            "account": labels.get(cursor.account_id, cursor.account_id),
            "stream": cursor.stream,
            "reader": cursor.reader,
            "covered_until": when(cursor.covered_until_us),
            "reading_until": when(cursor.reading_until_us) if cursor.reading_until_us else "",
        }
        for cursor in read(settings.root.state_dir, stream_log.list_cursors)
    ]
    if as_json:
        print_json(rows)
        return
    columns = ("account", "stream", "reader", "covered_until", "reading_until")
    cells = [tuple(row[column] for column in columns) for row in rows]
    show(columns, cells, nothing="no positions yet")


@cursors.command("set")
@config_option
@yes_option
@click.option("--account", required=True, help="Label or id of the account.")
@click.option("--stream", required=True, help="Name of the stream.")
@click.option(
    "--to", "to_us", required=True, type=MomentType(), help="RFC 3339 time, or a duration ago."
)
def set_cursor(config: Path, *, account: str, stream: str, to_us: int, yes: bool) -> None:
    """Move the live position of a stream.

    Forward: the rows in between are not read, and a gap records that. Back: rows are read again,
    and those that were not seen before are delivered.
    """
    settings = settings_from(config)
    account_id = _account_id(labels_of(settings), account)
    if to_us > now_us():
        raise click.UsageError("--to is in the future: rows that do not exist yet would be lost")
    if not yes:
        click.confirm(
            f"Move {account}/{stream} to {when(to_us)}? Rows that are jumped over are not read.",
            abort=True,
        )
    given = {"account_id": account_id, "stream": stream, "to_us": to_us}
    answer = carry_out(settings, "cursor-set", given)
    say(f"{account}/{stream}: covered until {answer['covered_until']}")


def _account_id(labels: dict[str, str], name: str) -> str:
    for account_id, label in labels.items():
        if name in {account_id, label}:
            return account_id
    raise click.UsageError(f"no account is called {name!r}; there is {', '.join(labels.values())}")


@click.group()
def gaps() -> None:
    """What was lost, or may have been lost."""


@gaps.command("list")
@config_option
@json_option
def list_gaps(config: Path, *, as_json: bool) -> None:
    """List every gap, oldest first. The exit status is 0 with and without gaps."""
    from forwarder.journal import ledger  # noqa: PLC0415 - keeps --help fast
    from forwarder.journal.events import with_name  # noqa: PLC0415 - keeps --help fast

    settings = settings_from(config)
    found = read(settings.root.state_dir, ledger.list_gaps)
    if as_json:
        print_json([_as_json(gap) for gap in found])
        return
    labels = labels_of(settings)
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
            for gap in found
        ],
        nothing="no gaps: nothing is known to be lost",
    )


def _as_json(gap: Gap) -> dict[str, Any]:
    value = asdict(gap)
    for key in ("since_us", "until_us", "opened_us", "closed_us"):
        time_us = value.pop(key)
        value[key.removesuffix("_us")] = None if time_us is None else when(time_us)
    return value


@click.command()
@config_option
@click.option("--sink", required=True, help="Name of the sink.")
@since_option(required=True)
def replay(config: Path, *, sink: str, since: int) -> None:
    """Deliver again what was first seen since a time, in a lane of its own behind live events.

    Event ids stay the same, so Elasticsearch and OpenSearch answer 409 for events that are still
    in the same backing index, and keep them once. Other destinations get them twice. Only rows
    that the journal still keeps can be replayed (`journal.keep_delivered`); older ones can be read
    from Cloudflare with `forwarder backfill --again`.
    """
    given = {"sink": sink, "since_us": since}
    answer = carry_out(settings_from(config), "replay", given)
    say(f"{answer['events']} event(s) in lane {answer['lane']}, behind live ones")


@click.group()
def dead_letters() -> None:
    """Events that a sink refused for good: kept raw, with the reason."""


@dead_letters.command("list")
@config_option
@json_option
@click.option("--sink", help="Only this sink.")
@click.option("--limit", default=100, show_default=True, help="The largest number to list.")
def list_dead_letters(config: Path, *, as_json: bool, sink: str | None, limit: int) -> None:
    """List dead letters, oldest first, without their content."""
    letters = _letters(config, sink=sink, limit=limit)
    if as_json:
        print_json([{k: v for k, v in letter.items() if k != "row"} for letter in letters])
        return
    columns = ("id", "sink", "account", "stream", "died", "size", "reason")
    cells = [tuple(str(letter[column]) for column in columns) for letter in letters]
    show(columns, cells, nothing="no dead letters")


@dead_letters.command("show")
@config_option
@click.argument("letter_id", metavar="ID", type=int)
def show_dead_letter(config: Path, *, letter_id: int) -> None:
    """Show one dead letter with its raw row, as JSON."""
    letters = _letters(config, letter_id=letter_id)
    if not letters:
        raise click.UsageError(f"there is no dead letter {letter_id}")
    print_json(letters[0])


@dead_letters.command("replay")
@config_option
@_sink
@_ids
def replay_dead_letters(config: Path, *, sink: str, ids: tuple[int, ...]) -> None:
    """Deliver all dead letters of a sink again, or some, rendered with the present settings."""
    given = {"sink": sink, "ids": list(ids) or None}
    answer = carry_out(settings_from(config), "dead-letters-replay", given)
    if answer["events"]:
        say(f"{answer['events']} event(s) in lane {answer['lane']}, behind live ones")
    else:
        say(_none(sink, ids))


@dead_letters.command("drop")
@config_option
@yes_option
@_sink
@_ids
def drop_dead_letters(config: Path, *, sink: str, ids: tuple[int, ...], yes: bool) -> None:
    """Delete all dead letters of a sink, or some. This cannot be undone."""
    if not yes:
        what = f"{len(ids)} dead letter(s)" if ids else "ALL dead letters"
        click.confirm(f"Delete {what} of {sink}?", abort=True)
    given = {"sink": sink, "ids": list(ids) or None}
    answer = carry_out(settings_from(config), "dead-letters-drop", given)
    deleted = f"{answer['events']} dead letter(s) deleted"
    say(deleted if answer["events"] else _none(sink, ids))


def _none(sink: str, ids: tuple[int, ...]) -> str:
    return f"{sink} has no dead letters" + (" with these numbers" if ids else "")


def _letters(config: Path, **choice: Any) -> list[dict[str, Any]]:
    import orjson  # noqa: PLC0415 - keeps --help fast

    from forwarder.journal.dead_letters import (  # noqa: PLC0415 - as above
        StoredLetter,
        list_letters,
        sink_number,
    )

    settings = settings_from(config)
    labels = labels_of(settings)

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
            "row": orjson.loads(letter.row),
        }
        for letter in read(settings.root.state_dir, question)
    ]
