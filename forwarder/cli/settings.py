"""The settings and what they name: ``config``, ``check`` and ``plugins``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from forwarder.cli.access import settings_from
from forwarder.cli.init import init
from forwarder.cli.terminal import (
    config_option,
    json_option,
    print_findings,
    print_json,
    say,
    tell,
)


@click.group()
def config() -> None:
    """Write a settings file, show the settings in force, or print their JSON schema."""


config.add_command(init)


@config.command()
def schema() -> None:
    """Print the JSON schema of the settings file, with the keys of installed plugins."""
    from forwarder.config.plugins import InstalledPlugins  # noqa: PLC0415 - imports pydantic
    from forwarder.config.showing import json_schema  # noqa: PLC0415 - as above

    print_json(json_schema(InstalledPlugins()))


@config.command()
@config_option
def show(config: Path) -> None:
    """Print the settings in force.

    Defaults are filled in, variables resolved, secrets masked.
    """
    from forwarder.config.showing import as_yaml  # noqa: PLC0415 - imports pydantic

    say(as_yaml(settings_from(config)), newline=False)


@click.command()
@json_option
def plugins(*, as_json: bool) -> None:
    """List sources, sinks and formats, and those that cannot be imported."""
    from forwarder.config.plugins import InstalledPlugins  # noqa: PLC0415 - imports pydantic

    rows = InstalledPlugins().listed()
    if as_json:
        print_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        say(f"{row['kind']:<8} {row['name']:<{width}}  {row['summary'] or row['error']}")


@click.command()
@config_option
@click.option("--live", is_flag=True, help="Also query Cloudflare and every sink; changes nothing.")
@click.option("--journal", is_flag=True, help="Also read the whole journal, verifying checksums.")
def check(config: Path, *, live: bool, journal: bool) -> None:
    """Validate the settings.

    Exit status: 0 if all is well, 1 if --live found a fault or --journal found damage, 2 if the
    settings have faults.
    """
    from forwarder.runtime.inspection import check_usable  # noqa: PLC0415 - imports the plugins

    settings = settings_from(config)
    check_usable(settings)
    for warning in settings.warnings:
        tell(f"warning: {warning}", colour="yellow")
    accounts, sinks = len(settings.accounts), len(settings.sinks)
    say(f"{config}: the settings are valid: {accounts} account(s), {sinks} sink(s)")
    if journal:
        _check_journal(settings)
    if live:
        sys.exit(1 if _found_faults(settings) else 0)


def _check_journal(settings: Any) -> None:
    """Read everything; list every damage, and exit with 1 if there is any."""
    from forwarder.runtime.opening import check_journal  # noqa: PLC0415 - keeps --help fast

    path, damages, remedy = check_journal(settings.root.state_dir, settings.root.journal)
    for damage in damages:
        tell(f"damaged: {damage}", colour="red")
    if damages:
        tell(f"{path}: {remedy}")
        sys.exit(1)
    say("the journal is undamaged")


def _found_faults(settings: Any) -> bool:
    """Query everything, and print the findings."""
    from forwarder.runtime.inspection import diagnosis  # noqa: PLC0415 - imports everything

    # Libraries would log on stderr what the findings report.
    logging.getLogger().addHandler(logging.NullHandler())
    findings = diagnosis(settings)
    say("ok     ", colour="green", newline=False)
    say(f"  state_dir {settings.root.state_dir}: can be written")
    return print_findings(findings)
