"""``forwarder status``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from forwarder.cli.options import config_option, json_option, settings_from

_WIDE = 200
"""Characters in a line for those that are no terminal: a pipe, a file, kubectl exec."""


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Show it anew every second, until interrupted.")
def command(config: Path, *, as_json: bool, watch: bool) -> None:
    """Show how the running forwarder is: streams, sinks, journal.

    Exit status: 0 when it is ready, 1 when it is not or when none runs.
    """
    state_dir = settings_from(config).root.state_dir
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_watch(state_dir))
        return
    state = _ask(state_dir)
    if as_json:
        import orjson  # noqa: PLC0415 - keeps --help fast

        click.echo(orjson.dumps(state, option=orjson.OPT_INDENT_2).decode())
    else:
        from rich.console import Console  # noqa: PLC0415 - slow to import

        from forwarder.cli.status_table import rendered  # noqa: PLC0415 - as above

        terminal = sys.stdout.isatty() or "COLUMNS" in os.environ
        Console(width=None if terminal else _WIDE).print(rendered(state))
    sys.exit(0 if state["ready"] else 1)


def _ask(state_dir: Path) -> Any:
    from forwarder.admin.client import ask  # noqa: PLC0415 - keeps --help fast

    return ask(state_dir, "status")


async def _watch(state_dir: Path) -> None:
    from rich.live import Live  # noqa: PLC0415 - slow to import

    from forwarder.cli.status_table import rendered  # noqa: PLC0415 - as above

    with Live(rendered(_ask(state_dir)), auto_refresh=False, screen=True) as live:
        while True:
            await asyncio.sleep(1)
            live.update(rendered(await asyncio.to_thread(_ask, state_dir)), refresh=True)
