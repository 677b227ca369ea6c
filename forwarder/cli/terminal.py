"""The terminal: options that commands share on the way in, and every way out.

Commands print through this module only. Texts from elsewhere (names, errors, rows) become
printable here, so that nothing they contain can steer the terminal.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import click
from click.shell_completion import CompletionItem

from forwarder.core.errors import ConfigError
from forwarder.core.timing import SystemClock, format_seconds, format_us, parse_us

if TYPE_CHECKING:
    from forwarder.core.contracts import Finding

PORT = click.IntRange(0, 65535)
RATE = click.FloatRange(min=0)
"""Events per second."""

_BETWEEN = "  "
_EARLIEST_US = 946_684_800_000_000
"""2000-01-01T00:00:00Z: no log is older, and calendars of clients fail near the year 1."""
_DAY_US = 86_400_000_000
"""How far a time may be ahead of this machine's clock, which may be wrong."""

_TAKE = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The other screen, no cursor, and no second line for what is too long."""
_GIVE_BACK = "\x1b[?7h\x1b[?25h\x1b[?1049l"

_LEVELS = {"ok": "green", "warning": "yellow", "fault": "red"}

_F = TypeVar("_F", bound=Callable[..., Any])


def say(text: str = "", *, colour: str | None = None, newline: bool = True) -> None:
    """Print a result on stdout; line ends are kept."""
    click.secho(printable(text), fg=colour, nl=newline)


def tell(text: str, *, colour: str | None = None) -> None:
    """Print something for the person at the terminal on stderr."""
    click.secho(printable(text), fg=colour, err=True)


def print_findings(findings: Iterable[Finding]) -> bool:
    """Print a line for each finding, and what to do about it below; return True for a fault."""
    found = False
    for one in findings:
        found = found or one.level == "fault"
        say(f"{one.level:<7}", colour=_LEVELS[one.level], newline=False)
        say(f"  {one.subject}: {one.text}")
        if one.hint:
            say(f"         -> {one.hint}")
    return found


def print_json(value: Any, *, indented: bool = True) -> None:
    """Print JSON on stdout, indented or in one line."""
    import orjson  # noqa: PLC0415 - keeps --help fast

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indented else 0).decode()
    say(text if text.isprintable() else "".join(map(_escaped, text)))


def _escaped(sign: str) -> str:
    r"""Return a sign that could steer the terminal as JSON's ``\uXXXX``, which is the same data."""
    if sign.isprintable() or sign == "\n":
        return sign
    # orjson escapes what lies below U+0020 only: not DEL, C1 controls and signs that turn text.
    pairs = sign.encode("utf-16-be").hex()
    return "".join(f"\\u{pairs[at : at + 4]}" for at in range(0, len(pairs), 4))


def printable(text: str) -> str:
    """Return a text of any lines in which nothing steers the terminal."""
    # Nearly always: checking is one call in C.
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
    # A file or a pipe has no width: lines are never broken there.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in laid_out(columns, rows, width):
        say(line)


def laid_out(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> Iterator[str]:
    """Return the lines; ``width`` is the terminal's in characters, None for a file or a pipe."""
    # Cells hold names and errors from elsewhere; a line end in one would forge a row.
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


class Line(NamedTuple):
    """A line of the whole screen; ``colour`` is the parameter of its escape, empty for none."""

    text: str
    colour: str = ""


def draw(lines: Sequence[Line]) -> None:
    """Replace what is on the whole screen; there are no more lines than the terminal has."""
    # Written over what is there, in one piece: a screen that is erased first flickers.
    plain = "NO_COLOR" in os.environ
    texts = (
        text if plain or not colour else f"\x1b[{colour}m{text}\x1b[0m" for text, colour in lines
    )
    sys.stdout.write("\x1b[H" + "\x1b[K\n".join(texts) + "\x1b[K\x1b[J")
    sys.stdout.flush()


@contextmanager
def whole_screen() -> Iterator[Callable[[float], str]]:
    """Have the terminal to ourselves; yields what waits some seconds for a key."""
    keys = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = None if keys is None else termios.tcgetattr(keys)
    # So that the terminal is given back then, too.
    ended = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def key(seconds: float) -> str:
        ready, _, _ = select.select([] if keys is None else [keys], [], [], seconds)
        return os.read(ready[0], 1).decode("ascii", "replace") if ready else ""

    try:
        if keys is not None:
            tty.setcbreak(keys)
        sys.stdout.write(_TAKE)
        yield key
    finally:
        sys.stdout.write(_GIVE_BACK)
        sys.stdout.flush()
        if keys is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before or [])
        signal.signal(signal.SIGTERM, ended)


def when(time_us: int, *, exact: bool = False) -> str:
    """Return microseconds since 1970 as RFC 3339, to the second or ``exact``."""
    return format_us(time_us) if exact else format_seconds(time_us)


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

        now, time_us = now_us(), parse_us(value)
        try:
            if time_us is None:
                time_us = now - round(parse_duration(value) * 1_000_000)
        except ValueError:
            allowed = "write for example 2026-07-01T12:00:00Z, or 2h for two hours ago"
            self.fail(f"{value!r} is not a time; {allowed}", param, ctx)
        # Refused here, before anything is stored: a stream cannot leave such a time by itself.
        if not _EARLIEST_US <= time_us <= now + _DAY_US:
            allowed = f"{when(_EARLIEST_US)} to {when(now + _DAY_US)}"
            self.fail(f"{value!r} is out of range; allowed: {allowed}", param, ctx)
        return time_us


class KnownName(click.ParamType[str]):
    """A name out of the settings file, which a shell can complete."""

    name = "text"

    def __init__(self, kind: Literal["account", "sink", "stream"]) -> None:
        """Complete accounts (their labels), sinks or streams."""
        self._kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so; none if the settings cannot be read."""
        del param
        path = ctx.params.get("config") or os.environ.get("FORWARDER_CONFIG", "config.yaml")
        try:
            names = known_names(self._kind, Path(path))
        except ConfigError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def known_names(kind: Literal["account", "sink", "stream"], path: Path) -> Collection[str]:
    """Return the accounts, sinks or streams that the settings at ``path`` may name, sorted.

    Raises ``ConfigError`` if the file cannot be read.
    """
    from forwarder.config.loading import load_place  # noqa: PLC0415 - imports pydantic
    from forwarder.config.plugins import InstalledPlugins  # noqa: PLC0415 - as above

    if kind == "stream":
        installed = InstalledPlugins()
        sources = [installed.load("sources", name) for name in installed.entries("sources")]
        return sorted({name for one in sources for name in getattr(one, "normalisers", ())})
    _, labels, sinks = load_place(path, os.environ)
    return sorted(labels.values() if kind == "account" else sinks)


def window(since_us: int, until_us: int) -> tuple[int, int]:
    """Return both, ``until`` at most now, if they are in order; otherwise it is a usage error."""
    if since_us >= until_us:
        raise click.UsageError("--until must be later than --since")
    now = now_us()
    if since_us >= now:
        raise click.UsageError(f"--since is in the future; allowed: up to now, {when(now)}")
    return since_us, min(until_us, now)


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation unless ``yes``; ends the command if the answer is no."""
    if yes:
        return
    # Nobody can answer a pipe or a job: waiting or guessing would both be wrong.
    if not sys.stdin.isatty():
        raise click.UsageError(f"{printable(question)} Nobody can answer here: add --yes")
    # On stderr: stdout may be a file that wants results only.
    click.confirm(printable(question), abort=True, err=True)


def refuse_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise a usage error that lists the known names if one of those given is unknown."""
    unknown, listed = sorted({*given} - {*known}), ", ".join(sorted({*known}))
    if unknown:
        names = f"; there is {listed}" if listed else ""
        raise click.UsageError(f"no {what} is called {', '.join(unknown)}{names}")


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


def lane_option(function: _F) -> _F:
    """Add ``--lane``."""
    return click.option(
        "--lane",
        metavar="LANE",
        help="Finish a command that only some shards did: the lane that it named.",
    )(function)


def choice_options(*names: Literal["account", "sink", "stream"]) -> Callable[[_F], _F]:
    """Add any of ``--account``, ``--stream``, ``--sink``; each may be given several times."""

    def add(function: _F) -> _F:
        for name in reversed(names):
            option = click.option(
                f"--{name}",
                f"{name}s",
                type=KnownName(name),
                multiple=True,
                help=f"Only this {name}; repeatable.",
            )
            function = option(function)
        return function

    return add


def yes_option(function: _F) -> _F:
    """Add ``--yes``."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(function)
