"""``forwarder backfill``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forwarder.cli.options import (
    MomentType,
    choice_options,
    config_option,
    settings_from,
    window,
)

if TYPE_CHECKING:
    from forwarder.cli.verify import Bar
    from forwarder.config import ForwarderSettings

_LOOK = 0.5


@click.command()
@config_option
@click.option("--since", type=MomentType(), help="RFC 3339, or a duration ago.")
@click.option("--until", type=MomentType(), default="0", help="The same; default: now.")
@click.option("--again", is_flag=True, help="Deliver rows that were seen before, too.")
@click.option("--detach", is_flag=True, help="Leave it to the daemon and return at once.")
@click.option("--cancel", metavar="LANE", help="Stop a backfill or a replay instead.")
@choice_options("account", "stream", "sink")
def command(config: Path, *, cancel: str | None, detach: bool, **given: Any) -> None:
    """Read an older window from Cloudflare and deliver it behind live events.

    Beside a running daemon it goes through that one; without one it is done here. The live
    position does not move. Rows that were seen before are left out unless --again. It can be
    interrupted: the daemon goes on with it.
    """
    from forwarder.cli.options import carry_out  # noqa: PLC0415 - keeps --help fast

    settings = settings_from(config)
    if cancel is not None:
        answer = carry_out(settings, "lane-cancel", {"lane": cancel})
        click.echo(f"{answer['lane']} is cancelled; what was delivered stays")
        return
    if given["since"] is None:
        raise click.UsageError("--since is missing")
    since_us, until_us = window(given["since"], given["until"])
    order = {
        "since_us": since_us,
        "until_us": until_us,
        "again": given["again"],
        "accounts": given["accounts"],
        "streams": given["streams"],
        "sinks": given["sinks"],
    }
    _carry_out(settings, order, detach=detach)


def _carry_out(settings: ForwarderSettings, order: Mapping[str, Any], *, detach: bool) -> None:
    from forwarder.admin.client import NoDaemonError, ask  # noqa: PLC0415 - keeps --help fast
    from forwarder.cli.verify import Bar  # noqa: PLC0415 - imports rich

    state_dir = settings.root.state_dir
    try:
        answer = ask(state_dir, "backfill", order)
    except NoDaemonError:
        if detach:
            raise
        from forwarder.runtime.operations import backfill  # noqa: PLC0415 - imports everything

        with Bar() as bar:
            answer = backfill(settings, order, bar.show)
    else:
        click.echo(f"lane {answer['lane']}: {', '.join(answer['streams'])}", err=True)
        if detach:
            return
        with Bar() as bar:
            asyncio.run(_watch(state_dir, answer["lane"], bar))
    known = "" if order["again"] else " that were not known; --again delivers the others, too"
    click.echo(f"{answer['lane']}: done, {bar.rows} row(s){known}")


async def _watch(state_dir: Path, lane: str, bar: Bar) -> None:
    """Draw what the daemon says until the lane is through."""
    from forwarder.admin.client import ask  # noqa: PLC0415 - keeps --help fast
    from forwarder.cli.verify import is_open  # noqa: PLC0415 - imports rich

    while is_open(status := await asyncio.to_thread(ask, state_dir, "status"), lane):
        bar.show(status)
        await asyncio.sleep(_LOOK)
