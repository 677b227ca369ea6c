"""Tables for people, on stdout."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence

import click

from forwarder.core.timestamps import format_seconds

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
