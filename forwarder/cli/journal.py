"""What an operator does with a journal: cursors, gaps, dead letters, replays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forwarder.cli.access import Place, carry_out, place_from, read, settings_from, sinks_of
from forwarder.cli.terminal import (
    KnownName,
    MomentType,
    config_option,
    confirm,
    json_option,
    lane_option,
    now_us,
    print_json,
    refuse_unknown,
    say,
    show,
    since_option,
    tell,
    when,
    yes_option,
)
from forwarder.core.contracts import PUSH

if TYPE_CHECKING:
    from forwarder.core.journal import Gap, StoredLetter


class LetterType(click.ParamType[int | str]):
    """The id of a dead letter: a number, or SHARD-ID where the journal has several shards."""

    name = "id"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return it as the journal's dead letters are called."""
        if not re.fullmatch("([0-9]{1,4}-)?[0-9]{1,18}", str(value)):
            self.fail(f"{value!r} is neither a number nor SHARD-ID", param, ctx)
        return str(value) if "-" in str(value) else int(value)


_ids = click.argument("ids", nargs=-1, type=LetterType())
_sink = click.option("--sink", type=KnownName("sink"), required=True, help="Name of the sink.")


@click.group()
def cursors() -> None:
    """How far each reader of each stream has read."""


@cursors.command("list")
@config_option
@json_option
def list_cursors(config: Path, *, as_json: bool) -> None:
    """List the positions. `live` is the stream's position; other readers re-read behind it."""
    place = place_from(config)
    rows = [
        {
            "account": place.labels.get(cursor.account_id, cursor.account_id),
            "stream": cursor.stream,
            "reader": cursor.reader,
            # A push says nothing of what was not pushed.
            "covered_until": "" if cursor.reader == PUSH else when(cursor.covered_until_us),
            "reading_until": when(cursor.reading_until_us) if cursor.reading_until_us else "",
        }
        for cursor in read(place, lambda view: view.cursors())
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
@click.option(
    "--account", type=KnownName("account"), required=True, help="Label or id of the account."
)
@click.option("--stream", type=KnownName("stream"), required=True, help="Name of the stream.")
@click.option(
    "--to", "to_us", required=True, type=MomentType(), help="RFC 3339 time, or a duration ago."
)
def set_cursor(config: Path, *, account: str, stream: str, to_us: int, yes: bool) -> None:
    """Move the live position of a stream.

    Forward: the rows in between are not read, and a gap records that. Back: rows are read again,
    and those that were not seen before are delivered.

    Example: `forwarder cursors set --account acme --stream scim_updates --to 2h`
    """
    settings = settings_from(config)
    labels = {account.account_id: account.label for account in settings.accounts}
    refuse_unknown("account", [account], [*labels, *labels.values()])
    (chosen,) = (one for one in settings.accounts if account in {one.account_id, one.label})
    refuse_unknown("stream", [stream], [name for name, on in chosen.config.streams if on])
    if to_us > now_us():
        # Rows of the time in between would never be read.
        to_us = now_us()
        tell(f"forwarder: --to is in the future; the position is set to now, {when(to_us)}")
    # Forward is the dangerous way, but a typing error can turn one into the other.
    question = f"Move {account}/{stream} to {when(to_us)}? Rows that are jumped over are not read."
    confirm(question, yes=yes)
    given = {"account_id": chosen.account_id, "stream": stream, "to_us": to_us}
    answer = carry_out(place_from(config), "cursor-set", given)
    say(f"{account}/{stream}: covered until {answer['covered_until']}")


@click.group()
def gaps() -> None:
    """What was lost, or may have been lost."""


@gaps.command("list")
@config_option
@json_option
def list_gaps(config: Path, *, as_json: bool) -> None:
    """List every gap, oldest first. The exit status is 0 with and without gaps."""
    from forwarder.core.journal import with_name  # noqa: PLC0415 - keeps --help fast

    place = place_from(config)
    found = read(place, lambda view: view.gaps())
    if as_json:
        print_json([_as_json(gap) for gap in found])
        return
    show(
        ("scope", "reason", "from", "to", "rows", "opened", "closed", "detail"),
        [
            (
                with_name(gap.scope, place.labels),
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
@click.option("--sink", type=KnownName("sink"), required=True, help="Name of the sink.")
@since_option(required=True)
@lane_option
def replay(config: Path, *, sink: str, since: int, lane: str | None) -> None:
    """Deliver stored events to a sink again, in a lane of their own behind live events.

    --since is the time at which a row was first seen. Event ids stay the same: Elasticsearch and
    OpenSearch keep events that are still in the same backing index once. Other destinations get
    them twice. Only rows that the journal still keeps can be replayed (`journal.keep_delivered`);
    `forwarder backfill --again` reads older rows from Cloudflare.

    Example: `forwarder replay --sink splunk --since 2h`
    """
    place = place_from(config)
    refuse_unknown("sink", [sink], sinks_of(place))
    answer = carry_out(place, "replay", {"sink": sink, "since_us": since, "lane": lane})
    say(f"{answer['events']} event(s) in lane {answer['lane']}, behind live ones")


@click.group()
def dead_letters() -> None:
    """Events that a sink refused for good: kept raw, with the reason."""


@dead_letters.command("list")
@config_option
@json_option
@click.option("--sink", type=KnownName("sink"), help="Only this sink.")
@since_option(required=False)
@click.option("--limit", default=100, show_default=True, help="How many to list at most.")
@click.option("--group", is_flag=True, help="Count by sink and reason instead of listing.")
def list_dead_letters(
    config: Path, *, as_json: bool, sink: str | None, since: int | None, limit: int, group: bool
) -> None:
    """List dead letters, oldest first, without their content.

    --since selects by the time at which they became dead letters. The size is that of the row,
    or of the event if the sink refused it for its size.

    Example: `forwarder dead-letters list --group --sink splunk`
    """
    place = place_from(config)
    refuse_unknown("sink", [sink] if sink else [], sinks_of(place))
    kept = [one for one in _stored(place, sink=sink) if since is None or one.at_us >= since]
    rows = _groups(kept) if group else [_described(place, one) for one in kept[:limit]]
    if as_json:
        print_json(rows)
        return
    columns = ["id", "sink", "account", "stream", "died", "size", "reason"]
    if group:
        columns = ["events", "sink", "latest", "reason"]
    cells = [tuple(str(row[column]) for column in columns) for row in rows]
    show(columns, cells, nothing="no dead letters")
    if len(rows) < len(kept) and not group:
        tell(
            f"{len(rows):,} of {len(kept):,} dead letters, oldest first. --limit shows more, "
            "--since later ones, --group counts them by reason"
        )


def _groups(letters: Sequence[StoredLetter]) -> list[dict[str, Any]]:
    """Return how many there are for each sink and reason, the largest group first."""
    found: dict[tuple[str, str], list[int]] = {}
    for letter in letters:
        # Sizes and offsets in a reason would make a group of each event.
        reason = re.sub(r"\d+", "#", letter.reason)
        found.setdefault((letter.sink, reason), []).append(letter.at_us)
    return [
        {"events": len(times), "sink": sink, "latest": when(max(times)), "reason": reason}
        for (sink, reason), times in sorted(found.items(), key=lambda group: -len(group[1]))
    ]


@dead_letters.command("show")
@config_option
@click.argument("letter_id", metavar="ID", type=LetterType())
def show_dead_letter(config: Path, *, letter_id: int | str) -> None:
    """Show one dead letter with its raw row, as JSON."""
    import orjson  # noqa: PLC0415 - keeps --help fast

    place = place_from(config)
    number = int(str(letter_id).rpartition("-")[2])
    letters = [one for one in _stored(place, letter_id=number) if _id_of(one) == letter_id]
    if not letters:
        raise click.UsageError(f"there is no dead letter {letter_id}; `dead-letters list` has all")
    print_json({**_described(place, letters[0]), "row": orjson.loads(letters[0].row)})


@dead_letters.command("replay")
@config_option
@_sink
@_ids
def replay_dead_letters(config: Path, *, sink: str, ids: tuple[int | str, ...]) -> None:
    """Deliver dead letters of a sink again: all, or those named.

    They are rendered with the current settings.

    Example: `forwarder dead-letters replay --sink splunk 17 18`
    """
    place = place_from(config)
    _refuse_unknown_letters(place, sink, ids)
    answer = carry_out(place, "dead-letters-replay", {"sink": sink, "ids": list(ids) or None})
    if answer["events"]:
        say(f"{answer['events']} event(s) in lane {answer['lane']}, behind live ones")
    else:
        say(f"{sink} has no dead letters")


@dead_letters.command("drop")
@config_option
@yes_option
@_sink
@_ids
def drop_dead_letters(config: Path, *, sink: str, ids: tuple[int | str, ...], yes: bool) -> None:
    """Delete all dead letters of a sink, or those named. This cannot be undone.

    Example: `forwarder dead-letters drop --sink splunk 17 18`
    """
    place = place_from(config)
    _refuse_unknown_letters(place, sink, ids)
    what = f"{len(ids)} dead letter(s)" if ids else "ALL dead letters"
    confirm(f"Delete {what} of {sink}?", yes=yes)
    answer = carry_out(place, "dead-letters-drop", {"sink": sink, "ids": list(ids) or None})
    say(f"{answer['events']} dead letter(s) of {sink} deleted")


def _refuse_unknown_letters(place: Place, sink: str, ids: Sequence[int | str]) -> None:
    """Refuse a sink or a number that does not exist: doing nothing would look like success."""
    refuse_unknown("sink", [sink], sinks_of(place))
    # Without numbers all are meant, and none is a good answer.
    known = {_id_of(letter) for letter in _stored(place, sink=sink)} if ids else set()
    unknown = [one for one in dict.fromkeys(ids) if one not in known]
    if unknown:
        listed = ", ".join(map(str, unknown))
        raise click.UsageError(
            f"{sink} has no dead letter {listed}; `dead-letters list --sink {sink}` has all"
        )


def _stored(place: Place, **choice: Any) -> list[StoredLetter]:
    return list(read(place, lambda view: view.letters(**choice)))


def _id_of(letter: StoredLetter) -> int | str:
    """Return what the commands call a dead letter."""
    return letter.id if letter.shard is None else f"{letter.shard}-{letter.id}"


def _described(place: Place, letter: StoredLetter) -> Mapping[str, Any]:
    """Return a dead letter without its content."""
    return {
        "id": _id_of(letter),
        "sink": letter.sink,
        "account": place.labels.get(letter.account_id, letter.account_id),
        "stream": letter.stream,
        "died": when(letter.at_us),
        "event_id": letter.event_id,
        "time": when(letter.time_us),
        "size": len(letter.row) if letter.size is None else letter.size,
        "reason": letter.reason,
    }
