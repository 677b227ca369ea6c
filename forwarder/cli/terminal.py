"""The terminal: options that commands share on the way in, and every way out.

Commands print through this module only. Texts from elsewhere (names, errors, rows) become
printable here, so that nothing they contain can steer the terminal.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from forwarder.core.timing import SystemClock, format_seconds, parse_us

PORT = click.IntRange(0, 65535)
RATE = click.FloatRange(min=0)
"""Events per second."""

_BETWEEN = "  "
_F = TypeVar("_F", bound=Callable[..., Any])


def say(text: str = "", *, colour: str | None = None, newline: bool = True) -> None:
    """Print a result on stdout; line ends are kept."""
    click.secho(printable(text), fg=colour, nl=newline)


def tell(text: str, *, colour: str | None = None) -> None:
    """Print something for the person at the terminal on stderr."""
    click.secho(printable(text), fg=colour, err=True)


def print_json(value: Any) -> None:
    """Print JSON on stdout, indented."""
    import orjson  # noqa: PLC0415 - keeps --help fast

    say(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def printable(text: str) -> str:
    """Return a text of any lines in which nothing steers the terminal."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)


def printable_tree(value: Any) -> Any:
    """Return the same for every text in lists and mappings, for rich's tables."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return {key: printable_tree(inner) for key, inner in value.items()}
    return [printable_tree(inner) for inner in value] if isinstance(value, list) else value


def one_line(text: str) -> str:
    """Return a printable text without line ends."""
    return printable(" ".join(text.split()))


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, nothing: str) -> None:
    """Print a table of plain texts on stdout, or the sentence ``nothing`` if it has no rows.

    Each row is a line. If the terminal is too narrow, each row is a block, one line per column.
    """
    if not rows:
        say(nothing)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in laid_out(columns, rows, width):
        say(line)


def laid_out(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> Iterator[str]:
    """Return the lines; ``width`` is the terminal's in characters, None for a file or a pipe."""
    texts = [[one_line(cell) for cell in row] for row in rows]
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


def when(time_us: int) -> str:
    """Return microseconds since 1970 as people read them, to the second."""
    return format_seconds(time_us)


def now_us() -> int:
    """Return the present in microseconds since 1970."""
    return SystemClock().now_us()


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
    """A point in time in microseconds since 1970: RFC 3339, or a duration ago such as 2h."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return microseconds, or fail with what is allowed."""
        from forwarder.transport.settings import parse_duration  # noqa: PLC0415 - imports pydantic

        time_us = parse_us(value)
        if time_us is not None:
            return time_us
        try:
            return now_us() - round(parse_duration(value) * 1_000_000)
        except ValueError:
            allowed = "write for example 2026-07-01T12:00:00Z, or 2h for two hours ago"
            self.fail(f"{value!r} is not a time; {allowed}", param, ctx)


def window(since_us: int, until_us: int) -> tuple[int, int]:
    """Return both if the first is the earlier one; otherwise it is a usage error."""
    if since_us >= until_us:
        raise click.UsageError("--until must be later than --since")
    return since_us, until_us


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


def since_option(*, required: bool) -> Callable[[_F], _F]:
    """Add ``--since``."""
    return click.option(
        "--since", required=required, type=MomentType(), help="RFC 3339 time, or a duration ago."
    )


def choice_options(*names: str) -> Callable[[_F], _F]:
    """Add any of ``--account``, ``--stream``, ``--sink``; each may be given several times."""

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
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(function)
