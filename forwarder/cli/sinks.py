"""``forwarder sinks``: the sinks that the journal knows, also those the settings no longer name."""

from __future__ import annotations

from pathlib import Path

import click

from forwarder.cli.access import carry_out, place_from, read, sinks_of
from forwarder.cli.terminal import (
    config_option,
    confirm,
    json_option,
    print_json,
    refuse_unknown,
    say,
    show,
    when,
    yes_option,
)


@click.group()
def sinks() -> None:
    """The sinks that the journal knows, and what waits for them."""


@sinks.command("list")
@config_option
@json_option
def list_sinks(config: Path, *, as_json: bool) -> None:
    """List every sink that the journal knows.

    A sink that the settings do not name is absent: it keeps its place in every lane, but holds
    nothing. It gets what is still there when it comes back; what was removed meanwhile is a gap.
    """
    place = place_from(config)
    found = read(place, lambda view: view.sinks())
    rows = [
        {
            "sink": sink.name,
            "state": "in the settings" if sink.name in place.sinks else "absent",
            "since": when(sink.created_us),
            "waiting": sink.backlog,
            "dead_letters": sink.dead_letters,
            "lanes": list(sink.lanes),
        }
        for sink in found
    ]
    if as_json:
        print_json(rows)
        return
    columns = ("sink", "state", "since", "waiting", "dead_letters", "lanes")
    cells = [tuple(str(row[name]) for name in columns[:-1]) for row in rows]
    lanes = [", ".join(one.lanes) for one in found]
    cells = [(*cell, lane) for cell, lane in zip(cells, lanes, strict=True)]
    show(columns, cells, nothing="no sinks yet")


@sinks.command("forget")
@config_option
@yes_option
@click.argument("name")
def forget_sink(config: Path, *, name: str, yes: bool) -> None:
    """Give up an absent sink for good.

    What waited for it and its dead letters become a gap `sink_was_removed`. If a sink of this name
    is added again, it is a new one.
    """
    place = place_from(config)
    refuse_unknown("sink", [name], sinks_of(place))
    if name in place.sinks:
        raise click.UsageError(f"{name} is in the settings; remove it there first")
    confirm(f"Give up everything that waits for {name}?", yes=yes)
    answer = carry_out(place, "sink-forget", {"sink": name})
    say(
        f"{name} is forgotten: {answer['events']} event(s) that waited and "
        f"{answer['dead_letters']} dead letter(s) are lost (forwarder gaps list)"
    )
