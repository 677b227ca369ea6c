"""docs/commands.md, generated from the command line. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from forwarder.cli.program import EXIT_STATUSES, program

_HEAD = """\
<!-- Generated from the code: make generate -->
# Commands

This is what `forwarder COMMAND --help` prints. Logs go to standard error, results to standard
output. Commands that change something go through the running daemon, by a socket in the state
folder; if no daemon runs, they do the work themselves. [operations.md](operations.md) says when to
use which.

`MOMENT` is an RFC 3339 time (`2026-01-31T12:00:00Z`) or a duration ago (`2h`), from the year 2000
to a day ahead of the clock.

If the settings have faults, `status`, `dead-letters`, `gaps`, `cursors list`, `replay` and
`backfill --cancel` use `state_dir` and `journal` alone, and say so: the daemon may well run with
the settings that it had before.

## Exit status

| status | meaning |
|---:|---|
"""


def commands_page() -> str:
    """Return the page."""
    with click.Context(program, info_name="forwarder") as context:
        statuses = "".join(f"| {code} | {text} |\n" for code, text in EXIT_STATUSES.items())
        return "\n".join([_HEAD + statuses, *_commands(program, context)])


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        with click.Context(command, info_name=name, parent=context) as below:
            if isinstance(command, click.Group):
                yield from _commands(command, below)
            else:
                yield _section(command, below)


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = cleandoc(command.help or "")
    rows = [
        f"| `{_cell(record[0])}` | {_cell(record[1])} |"
        for parameter in command.params
        if isinstance(parameter, click.Option)
        and (record := parameter.get_help_record(context)) is not None
    ]
    table = ["| option | meaning |", "|---|---|", *rows, ""] if rows else []
    return "\n".join([f"## {context.command_path}\n", f"    {usage}\n", f"{text}\n", *table])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
