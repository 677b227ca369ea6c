"""``forwarder preview``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from forwarder.cli.options import config_option, settings_from


@click.command()
@config_option
@click.option("--sink", "sinks", multiple=True, help="Only this sink; repeatable.")
@click.option(
    "--file",
    "rows_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON rows: an array, one row, or one a line; default: two examples.",
)
def command(config: Path, *, sinks: tuple[str, ...], rows_file: Path | None) -> None:
    """Show rows and what each sink would receive for them. Sends nothing."""
    from forwarder.core.clock import SystemClock  # noqa: PLC0415 - keeps --help fast
    from forwarder.runtime.previewing import EXAMPLES, previews  # noqa: PLC0415 - as above

    settings = settings_from(config)
    unknown = set(sinks) - {sink.name for sink in settings.sinks}
    if unknown:
        raise click.UsageError(f"no sink is called {', '.join(sorted(unknown))}")
    rows = EXAMPLES if rows_file is None else _rows(rows_file)
    for preview in previews(settings, rows, sinks, SystemClock().now_us()):
        _show(preview.stream, preview.row, preview.bodies)


def _rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Read an array, an API answer, one object, or one object a line."""
    import orjson  # noqa: PLC0415 - keeps --help fast

    from forwarder.runtime.previewing import stream_of  # noqa: PLC0415 - as above

    text = path.read_bytes()
    try:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = [orjson.loads(line) for line in text.splitlines() if line.strip()]
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"{path} holds no JSON rows: {error}") from error
    if isinstance(value, dict):
        value = value["result"] if isinstance(value.get("result"), list) else [value]
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    if not rows:
        raise click.UsageError(f"{path} holds no JSON rows")
    return [(stream_of(row), row) for row in rows]


def _show(stream: str, row: Mapping[str, Any], bodies: Mapping[str, bytes | None]) -> None:
    import orjson  # noqa: PLC0415 - keeps --help fast
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(show_lines=True)
    table.add_column(f"{stream}: as received", overflow="fold", ratio=1)
    for name in bodies:
        table.add_column(name, overflow="fold", ratio=2)
    received = orjson.dumps(row, option=orjson.OPT_INDENT_2).decode()
    table.add_row(Text(received), *(Text(_readable(body)) for body in bodies.values()))
    Console().print(table)


def _readable(body: bytes | None) -> str:
    """Return JSON indented and any other text as it is."""
    import orjson  # noqa: PLC0415 - keeps --help fast

    if body is None:
        return "(left out by this sink's filters)"
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
