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
    from rich.console import Console  # noqa: PLC0415 - keeps --help fast

    from forwarder.cli.preview_view import plain, rendered  # noqa: PLC0415 - as above
    from forwarder.core.clock import SystemClock  # noqa: PLC0415 - as above
    from forwarder.runtime.previewing import EXAMPLES, previews  # noqa: PLC0415 - as above

    settings = settings_from(config)
    unknown = set(sinks) - {sink.name for sink in settings.sinks}
    if unknown:
        raise click.UsageError(f"no sink is called {', '.join(sorted(unknown))}")
    rows = EXAMPLES if rows_file is None else _rows(rows_file)
    console = Console()
    for preview in previews(settings, rows, sinks, SystemClock().now_us()):
        if console.is_terminal:
            console.print(rendered(preview, console.width))
        else:
            click.echo(plain(preview))


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
