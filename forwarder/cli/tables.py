"""Tables for people, on stdout."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from forwarder.core.timestamps import format_seconds


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, nothing: str) -> None:
    """Print a table of plain texts, or one sentence when there are no rows."""
    console = Console()
    if not rows:
        console.print(Text(nothing))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def when(time_us: int) -> str:
    """Return microseconds since 1970 as people read them, to the second."""
    return format_seconds(time_us)
