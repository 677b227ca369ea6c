"""The program: its commands by name, its exit statuses, and ``forwarder completion``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import click
from click.shell_completion import get_completion_class

from forwarder import __version__
from forwarder.core.errors import ConfigError, ForwarderError, LockedError, PartlyDoneError

DONE, FAILED, UNUSABLE, PARTLY = 0, 1, 2, 3
EXIT_STATUSES: Mapping[int, str] = {
    DONE: "done; of `status`: ready or degraded; of `verify` and `check`: nothing wrong was found",
    FAILED: "failed; of `status`: not ready, or no daemon runs; of `verify` and `check`: something "
    "wrong was found; also if you answer no or press Ctrl-C",
    UNUSABLE: "settings with faults; usage: unknown options, sinks, accounts, streams, lanes or "
    "dead letters, times out of range, a question without a terminal and without `--yes`; a state "
    "folder that cannot be used or is in use",
    PARTLY: "done only in some shards of the journal; the message says in which, and what to do",
}
"""What every command ends with; a test runs them all."""

_VARIABLE = "_FORWARDER_COMPLETE"
_INSTALL = {
    "bash": 'eval "$(forwarder completion bash)"   in ~/.bashrc (needs bash 4.4 or newer)',
    "zsh": 'eval "$(forwarder completion zsh)"   in ~/.zshrc, after compinit',
    "fish": "forwarder completion fish | source   in ~/.config/fish/config.fish",
}


class Entry(NamedTuple):
    """Where a command is (``module:attribute`` of this room), and its line in the overview."""

    place: str
    summary: str


COMMANDS: Mapping[str, Entry] = {
    "run": Entry("run:run", "Tail Cloudflare and deliver to the sinks until stopped."),
    "check": Entry("settings:check", "Validate the settings."),
    "demo": Entry("run:demo", "Run a simulated Cloudflare and the forwarder on the terminal."),
    "simulate": Entry("run:simulate", "Serve a simulated Cloudflare API."),
    "status": Entry("status:command", "Show the status of the running forwarder."),
    "preview": Entry("preview:command", "Show rows and what each sink would receive for them."),
    "verify": Entry("verify:command", "Re-read a window and report what became of every row."),
    "backfill": Entry(
        "backfill:command", "Read an older window and deliver it behind live events."
    ),
    "replay": Entry("journal:replay", "Deliver stored events to one sink again."),
    "dead-letters": Entry(
        "journal:dead_letters", "List, show, replay or drop what a sink refused."
    ),
    "cursors": Entry("journal:cursors", "List or set the positions of the streams."),
    "sinks": Entry("sinks:sinks", "List the sinks the journal knows, or forget an absent one."),
    "journal": Entry("fleet:journal", "Create or show a shared journal, or move a journal."),
    "logpush": Entry("logpush:logpush", "Print, create or check jobs that push to the receiver."),
    "gaps": Entry("journal:gaps", "List what was lost, or may have been lost."),
    "config": Entry("settings:config", "Write a settings file, show the settings or their schema."),
    "plugins": Entry("settings:plugins", "List sources, sinks and formats."),
    "completion": Entry("program:completion", "Print the script that completes commands."),
}
"""A new command is one line here and a function of that name in a module beside this one."""


class LazyGroup(click.Group):
    """Knows its commands by name, and imports the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        # Importing all commands would make `--help` take a second.
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        command: click.Command = getattr(import_module(f"forwarder.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview without importing any command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the command that was probably meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - only for a typing error

            close = get_close_matches(args[0], list(COMMANDS), 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="forwarder %(version)s")
def program() -> None:
    """Tail Cloudflare Access logs and deliver every event to any number of SIEMs."""


@click.command(
    epilog="\b\nTo have it in every shell, add this line:\n"
    + "\n".join(f"  {line}" for line in _INSTALL.values())
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in a shell."""
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click knows the three names above  # nosec B101
    # Not through the writer: this is a program of click's own, for a shell to read.
    click.echo(script(context.find_root().command, {}, "forwarder", _VARIABLE).source())


def run_program() -> None:
    """Run a command; report every known error in one line per fault, without a traceback.

    Errors of usage are printed here and not by click, so that all output has one writer. The
    statuses are those of ``EXIT_STATUSES``.
    """
    try:
        # `--help` returns its status; commands exit themselves or are done.
        status = program.main(prog_name="forwarder", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else DONE)
    except click.exceptions.NoArgsIsHelpError as error:
        _print(error.format_message())
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            _print(error.ctx.get_usage())
            _print(f"Try '{error.ctx.command_path} -h' for help.\n")
        _print(f"Error: {error.format_message()}")
        sys.exit(error.exit_code)
    except click.Abort:
        _print("Aborted!")
        sys.exit(FAILED)
    except ConfigError as error:
        _report(*(str(fault) for fault in error.faults))
        sys.exit(UNUSABLE)
    # Before its base class, since only this one is a matter of usage.
    except LockedError as error:
        _report(str(error))
        sys.exit(UNUSABLE)
    except PartlyDoneError as error:
        _report(str(error))
        sys.exit(PARTLY)
    except ForwarderError as error:
        hint = getattr(error, "hint", "")
        _report(f"{error} ({hint})" if hint else str(error))
        sys.exit(FAILED)


def _report(*lines: str) -> None:
    for line in lines:
        _print(f"forwarder: {' '.join(line.split())}")


def _print(text: str) -> None:
    from forwarder.cli.terminal import tell  # noqa: PLC0415 - keeps --help fast

    tell(text)
