"""``forwarder journal``: the tables of a journal that replicas share, who has it, and moving."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from forwarder.cli.access import Place, place_from
from forwarder.cli.terminal import config_option, json_option, print_json, say, show
from forwarder.core.errors import ConfigError, Fault


@click.group()
def journal() -> None:
    """Create the tables of a shared journal (PostgreSQL), show its owners, or move a journal."""


@journal.command()
@config_option
@click.option("--print", "printed", is_flag=True, help="Print the SQL; change nothing.")
def create(config: Path, *, printed: bool) -> None:
    """Create or upgrade the tables in the database.

    Changes nothing if they are up to date.

    If `journal.shards` is larger than before, it adds shards; stop all replicas first. Accounts
    that have a shard stay there. Shards cannot be removed.
    """
    from forwarder.runtime.opening import create_journal, statements_of  # noqa: PLC0415 - as above

    shared = _shared(config).journal
    if printed:
        statements = ["BEGIN", *statements_of(shared), "COMMIT"]
        say("\n".join(f"{one.strip().removesuffix(';')};" for one in statements))
        return
    done = create_journal(shared)
    said = "is there, and up to date"
    if done.shards:
        new = done.shards == shared.shards
        said = f"created, {done.shards} shard(s)" if new else f"{done.shards} shard(s) added"
    if done.older:
        said = "upgraded when the replicas of an older release have stopped: " + ", ".join(
            done.older
        )
    say(f"schema {shared.schema_}: {said}")


@journal.command()
@config_option
@json_option
def shards(config: Path, *, as_json: bool) -> None:
    """Show the owner and the accounts of each shard.

    The epoch is how often the shard has changed hands.
    """
    from forwarder.runtime.opening import shards_of  # noqa: PLC0415 - keeps --help fast

    place = _shared(config)
    owners, placed = shards_of(place.journal)
    names: dict[int, list[str]] = {one.shard: [] for one in owners}
    for account, shard in placed.items():
        names[shard].append(place.labels.get(account, account))
    if as_json:
        print_json([asdict(one) | {"accounts": sorted(names[one.shard])} for one in owners])
        return
    rows = [
        (
            str(one.shard),
            one.owner or "nobody",
            str(one.epoch),
            one.since,
            ", ".join(sorted(names[one.shard])) or "none",
        )
        for one in owners
    ]
    show(("shard", "owner", "epoch", "since", "accounts"), rows, nothing="there are no shards")


@journal.command("copy")
@config_option
@click.option(
    "--to",
    "target",
    metavar="SETTINGS",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings file that names the new journal.",
)
def copy_to(config: Path, *, target: Path) -> None:
    """Copy the journal of a stopped forwarder into another one.

    The settings that --to names have the new journal, which must be empty. Either journal may be a
    file or in PostgreSQL.

    Positions, events that wait, dead letters and gaps are copied as they are, so the forwarder
    continues where it stopped. The old journal is set aside, not deleted. If the copy is
    interrupted, repeat the command.

    Example: `forwarder journal copy -c old.yaml --to new.yaml`
    """
    from forwarder.core.timing import SystemClock  # noqa: PLC0415 - keeps --help fast
    from forwarder.runtime.opening import copy_journal  # noqa: PLC0415 - as above

    old, new = place_from(config), place_from(target)
    copied = copy_journal(
        (old.state_dir, old.journal), (new.state_dir, new.journal), clock=SystemClock()
    )
    say(f"copied {copied.rows:,} row(s) in {copied.pages:,} page(s), and all positions")
    say(f"the old journal is {copied.aside}. Start the forwarder with {target} only")


def _shared(config: Path) -> Place:
    """Return where a journal in a database is; raises ``ConfigError`` for one in a file."""
    place = place_from(config)
    if not place.shared:
        problem = "is sqlite: a file, which needs no tables and has one user"
        hint = "this command is for journal.type: postgres"
        raise ConfigError([Fault("journal.type", problem, hint)])
    return place
