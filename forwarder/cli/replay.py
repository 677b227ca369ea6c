"""``forwarder replay``."""

from __future__ import annotations

from pathlib import Path

import click

from forwarder.cli.options import MomentType, carry_out, config_option, settings_from


@click.command()
@config_option
@click.option("--sink", required=True, help="Name of the sink.")
@click.option("--since", required=True, type=MomentType(), help="RFC 3339, or a duration ago.")
def command(config: Path, *, sink: str, since: int) -> None:
    """Deliver again what was first seen since a moment, in a lane of its own behind live events.

    Event ids stay the same, so Elasticsearch and OpenSearch answer 409 for events that are still
    in the same backing index, and keep them once. Other destinations get them twice. Only rows
    that the journal still keeps can be replayed (`journal.keep_delivered`); older ones can be read
    from Cloudflare with `forwarder backfill --again`.
    """
    given = {"sink": sink, "since_us": since}
    answer = carry_out(settings_from(config), "replay", given)
    click.echo(f"{answer['events']} event(s) in lane {answer['lane']}, behind live ones")
