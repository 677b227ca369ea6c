"""``forwarder preview``: a row, and what each sink would receive for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from forwarder.cli.access import settings_from
from forwarder.cli.terminal import (
    KnownName,
    config_option,
    now_us,
    printable,
    refuse_unknown,
    say,
)
from forwarder.runtime.inspection import Preview

_NARROWEST = 48
"""Characters that a column needs to keep a key and an indented id of 36 characters in a line."""


def rendered(preview: Preview, width: int) -> RenderableType:
    """Return the preview for a terminal of ``width`` characters.

    The row and all bodies stand side by side if there is room, otherwise in panels.
    """
    parts = _parts(preview)
    # Side by side, unless ids would be broken over lines.
    if width < _NARROWEST * len(parts):
        panels = (
            Panel(Text(text), title=Text(name), title_align="left") for name, text in parts.items()
        )
        return Group(*panels)
    table = Table(show_lines=True)
    for name in parts:
        table.add_column(Text(name), overflow="fold", ratio=1)
    table.add_row(*map(Text, parts.values()))
    return table


def plain(preview: Preview) -> str:
    """Return the preview for a file or another program: without frames and line breaks."""
    return "\n".join(f"{name}\n{text}\n" for name, text in _parts(preview).items())


def _parts(preview: Preview) -> dict[str, str]:
    """Return what there is to show, by heading."""
    received = {f"{preview.stream}: as received": _indented(preview.row)}
    return received | {name: _readable(body) for name, body in preview.bodies.items()}


def _readable(body: bytes | None) -> str:
    """Return JSON indented, and any other text as it is."""
    if body is None:
        return "(excluded by this sink's filters)"
    try:
        return _indented(orjson.loads(body))
    except orjson.JSONDecodeError:
        return printable(body.decode(errors="replace"))


def _indented(value: Mapping[str, Any]) -> str:
    return printable(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


@click.command()
@config_option
@click.option(
    "--sink", "sinks", type=KnownName("sink"), multiple=True, help="Only this sink; repeatable."
)
@click.option(
    "--file",
    "rows_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON rows: an array, one row, or one per line; default: two examples.",
)
def command(config: Path, *, sinks: tuple[str, ...], rows_file: Path | None) -> None:
    """Show rows and what each sink would receive for them. Sends nothing.

    Example: `forwarder preview --sink splunk --file rows.ndjson`
    """
    from rich.console import Console  # noqa: PLC0415 - keeps --help fast

    from forwarder.runtime.inspection import EXAMPLES, previews  # noqa: PLC0415 - as above

    settings = settings_from(config)
    refuse_unknown("sink", sinks, [sink.name for sink in settings.sinks])
    rows = EXAMPLES if rows_file is None else _rows(rows_file)
    console = Console()
    for preview in previews(settings, rows, sinks, now_us()):
        if console.is_terminal:
            console.print(rendered(preview, console.width))
        else:
            say(plain(preview))


def _rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Read an array, an API answer, one object, or one object per line."""
    from forwarder.runtime.inspection import stream_of  # noqa: PLC0415 - as above

    text = path.read_bytes()
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = [_row(path, number, line) for number, line in enumerate(text.splitlines(), 1)]
    # An answer of the API, as curl saves it, has its rows under `result`.
    if isinstance(value, dict):
        value = value["result"] if isinstance(value.get("result"), list) else [value]
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    if not rows:
        raise click.UsageError(f"{path} contains no JSON rows")
    return [(stream_of(row), row) for row in rows]


def _row(path: Path, number: int, line: bytes) -> Any:
    try:
        return orjson.loads(line) if line.strip() else None
    except orjson.JSONDecodeError as error:
        # Its own position is one within the line; people need the file's.
        reason = str(error).partition(": line")[0]
        raise click.UsageError(f"{path}:{number}: invalid JSON: {reason}") from error
