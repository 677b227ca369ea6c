"""``forwarder check``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forwarder.cli.options import config_option, settings_from

if TYPE_CHECKING:
    from forwarder.core.contracts import Finding

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "fault": ("fault", "red")}


@click.command()
@config_option
@click.option("--live", is_flag=True, help="Ask Cloudflare and every sink, changing nothing.")
@click.option("--journal", is_flag=True, help="Read the whole journal and verify its checksums.")
def command(config: Path, *, live: bool, journal: bool) -> None:
    """Look whether the settings can be used.

    Exit status: 0 when all is well, 1 when --live found a fault or --journal found damage, 2 when
    the settings have faults.
    """
    from forwarder.runtime.workers import preflight  # noqa: PLC0415 - imports the plugins

    settings = settings_from(config)
    preflight(settings)
    for warning in settings.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    accounts, sinks = len(settings.accounts), len(settings.sinks)
    click.echo(f"{config}: the settings are good: {accounts} account(s), {sinks} sink(s)")
    if journal:
        _check_journal(settings.root.state_dir)
    if live:
        from forwarder.runtime.inspection import diagnose  # noqa: PLC0415 - as above
        from forwarder.runtime.replica import run_fast  # noqa: PLC0415 - as above

        logging.getLogger().addHandler(logging.NullHandler())  # findings say what libraries would
        findings = [_folder(settings.root.state_dir), *run_fast(diagnose(settings))]
        _show(findings)
        sys.exit(1 if any(finding.level == "fault" for finding in findings) else 0)


def _check_journal(state_dir: Path) -> None:
    """Read everything; tell every damage and exit 1 when there is one."""
    from forwarder.cli.options import read  # noqa: PLC0415 - keeps --help fast
    from forwarder.journal.database import (  # noqa: PLC0415 - as above
        FILE_NAME,
        REMEDY,
        check_fully,
    )

    path = state_dir / FILE_NAME
    damages = read(state_dir, lambda connection: list(check_fully(connection, path)))
    for damage in damages:
        click.secho(f"damaged: {damage}", fg="red", err=True)
    if damages:
        click.echo(f"{path}: {REMEDY}", err=True)
        sys.exit(1)
    click.echo("the journal is whole")


def _folder(state_dir: Path) -> Finding:
    """Say whether the journal can be where it shall be; nothing is made."""
    from forwarder.core.contracts import Finding  # noqa: PLC0415 - keeps --help fast

    subject, absolute = f"state_dir {state_dir}", state_dir.absolute()
    nearest = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not nearest.is_dir():
        return Finding("fault", subject, f"{nearest} is no folder", "choose another state_dir")
    if not os.access(nearest, os.W_OK | os.X_OK):
        hint = "give the folder to the user that runs the forwarder, or choose another state_dir"
        return Finding("fault", subject, f"this user may not write to {nearest}", hint)
    return Finding("ok", subject, "can be written")


def _show(findings: Sequence[Finding]) -> None:
    """Print a line a finding, and one below it with what to do."""
    for finding in findings:
        word, colour = _MARKS[finding.level]
        mark = click.style(f"{word:<7}", fg=colour)
        click.echo(f"{mark}  {finding.subject}: {finding.text}")
        if finding.hint:
            click.echo(f"         -> {finding.hint}")
