"""``forwarder plugins``."""

from __future__ import annotations

from typing import Any

import click

from forwarder.cli.options import json_option


@click.command()
@json_option
def command(*, as_json: bool) -> None:
    """List sources, sinks and formats, and say which of them cannot be imported."""
    from forwarder.config import InstalledPlugins  # noqa: PLC0415 - keeps --help fast

    rows = _rows(InstalledPlugins())
    if as_json:
        import orjson  # noqa: PLC0415 - as above

        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(f"{row['kind']:<8} {row['name']:<{width}}  {row['summary'] or row['error']}")


def _rows(plugins: Any) -> list[dict[str, str]]:
    from forwarder.config import PluginError  # noqa: PLC0415 - as above

    rows = []
    for kind in ("sources", "sinks", "formats"):
        for name, entry in sorted(plugins.entries(kind).items()):
            summary = error = ""
            try:
                summary = getattr(plugins.load(kind, name), "summary", "")
            except PluginError as fault:
                error = str(fault)
            distribution = entry.dist.name if entry.dist else ""
            rows.append(
                {
                    "kind": kind.removesuffix("s"),
                    "name": name,
                    "summary": summary,
                    "error": error,
                    "distribution": distribution,
                }
            )
    return rows
