"""``forwarder run``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from forwarder.cli.options import config_option, settings_from


@click.command()
@config_option
def command(config: Path) -> None:
    """Tail Cloudflare and deliver to the sinks, until stopped.

    SIGTERM or SIGINT ends it after what is under way has settled, within 25 seconds; a second one
    ends it at once. SIGHUP reads the settings anew. Logs go to stderr.

    Exit status: 0 after a graceful end, 1 when something failed or did not settle in time, 2 when
    the settings or the state folder cannot be used, or another process holds that folder.
    """
    from forwarder.runtime.daemon import run_daemon  # noqa: PLC0415 - imports everything

    settings = settings_from(config)
    sys.exit(run_daemon(settings, lambda: settings_from(config), os._exit))
