"""What commands share: options, tables, and asking the daemon or the journal.

Tables for people, on stdout.

Options that several commands take, and how they find the settings.

How a command reaches the state folder: through the daemon if one runs, else by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from forwarder.core.timing import format_seconds

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings


_BETWEEN = "  "


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, nothing: str) -> None:
    """Print plain texts, or one sentence when there are no rows.

    A row is a line. On a terminal that is too narrow it becomes a block, with a line a column.
    """
    if not rows:
        click.echo(nothing)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in laid_out(columns, rows, width):
        click.echo(line)


def laid_out(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> Iterator[str]:
    """Return the lines; ``width`` is the terminal's in characters, None for a file or a pipe."""
    texts = [[_harmless(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    if width is None or sum(widths) + len(_BETWEEN) * (len(widths) - 1) <= width:
        for row in (columns, *texts):
            cells = (cell.ljust(size) for cell, size in zip(row, widths, strict=True))
            yield _BETWEEN.join(cells).rstrip()
        return
    names = [column.ljust(max(map(len, columns))) for column in columns]
    for number, row in enumerate(texts):
        yield from [""] if number else []
        yield from (_BETWEEN.join(pair).rstrip() for pair in zip(names, row, strict=True))


def _harmless(text: str) -> str:
    """Return a text of others in one line, without what would steer the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def when(time_us: int) -> str:
    """Return microseconds since 1970 as people read them, to the second."""
    return format_seconds(time_us)


_F = TypeVar("_F", bound=Callable[..., Any])


PORT = click.IntRange(0, 65535)
RATE = click.FloatRange(min=0)
"""Events a second."""


def config_option(function: _F) -> _F:
    """Add ``-c/--config``."""
    return click.option(
        "-c",
        "--config",
        "config",
        type=click.Path(path_type=Path, dir_okay=False),
        default="config.yaml",
        envvar="FORWARDER_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The settings file.",
    )(function)


def json_option(function: _F) -> _F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


class DurationType(click.ParamType[float]):
    """A duration such as 10s or 5m, as seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds, or fail with what is allowed."""
        from forwarder.transport.settings import parse_duration  # noqa: PLC0415 - imports pydantic

        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class MomentType(click.ParamType[int]):
    """A moment as microseconds since 1970: RFC 3339, or a duration ago such as 2h."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return microseconds, or fail with what is allowed."""
        from forwarder.core.timing import (  # noqa: PLC0415 - only commands with times need it
            SystemClock,
            parse_us,
        )
        from forwarder.transport.settings import parse_duration  # noqa: PLC0415 - imports pydantic

        time_us = parse_us(value)
        if time_us is not None:
            return time_us
        try:
            return SystemClock().now_us() - round(parse_duration(value) * 1_000_000)
        except ValueError:
            allowed = "write for example 2026-07-01T12:00:00Z, or 2h for two hours ago"
            self.fail(f"{value!r} is no moment; {allowed}", param, ctx)


def window(since_us: int, until_us: int) -> tuple[int, int]:
    """Return both, when there is something between them; else it is a usage error."""
    if since_us >= until_us:
        raise click.UsageError("--until must be later than --since")
    return since_us, until_us


def choice_options(*names: str) -> Callable[[_F], _F]:
    """Add ``--account``, ``--stream``, ``--sink`` as wished; each may be given several times."""

    def add(function: _F) -> _F:
        for name in reversed(names):
            option = click.option(
                f"--{name}", f"{name}s", multiple=True, help=f"Only this {name}; repeatable."
            )
            function = option(function)
        return function

    return add


def yes_option(function: _F) -> _F:
    """Add ``--yes``."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def print_json(value: Any) -> None:
    """Print JSON on stdout, indented."""
    import orjson  # noqa: PLC0415 - keeps --help fast

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def settings_from(path: Path) -> ForwarderSettings:
    """Read the settings; raises ``ConfigError`` with every fault."""
    from forwarder.config import load  # noqa: PLC0415 - imports pydantic and the plugins

    return load(path, os.environ)


T = TypeVar("T")


def carry_out(settings: ForwarderSettings, name: str, given: Mapping[str, Any]) -> Any:
    """Let the running daemon carry out an operation, or do it here when none runs."""
    from forwarder.admin.client import NoDaemonError, ask  # noqa: PLC0415 - keeps --help fast

    try:
        return ask(settings.root.state_dir, name, given)
    except NoDaemonError:
        from forwarder.runtime import operations  # noqa: PLC0415 - imports everything

        return operations.carry_out(settings, name, given)


def read(state_dir: Path, question: Callable[[sqlite3.Connection], T]) -> T:
    """Ask the journal something, read-only, whether a daemon runs or not."""
    from forwarder.journal import JournalReader  # noqa: PLC0415 - keeps --help fast

    async def ask_shelf() -> T:
        reader = JournalReader(state_dir)
        try:
            return await reader.query(question)
        finally:
            await reader.aclose()

    return asyncio.run(ask_shelf())
