"""``forwarder config schema`` and ``forwarder config show``."""

from __future__ import annotations

from pathlib import Path

import click

from forwarder.cli.options import config_option, settings_from


@click.group()
def command() -> None:
    """Show the settings in force, or their JSON schema."""


@command.command()
def schema() -> None:
    """Print the JSON schema of the settings file, installed plugins included."""
    import orjson  # noqa: PLC0415 - keeps --help fast

    from forwarder.config import InstalledPlugins, json_schema  # noqa: PLC0415 - as above

    text = orjson.dumps(json_schema(InstalledPlugins()), option=orjson.OPT_INDENT_2)
    click.echo(text.decode())


@command.command()
@config_option
def show(config: Path) -> None:
    """Print the settings in force: defaults filled in, variables resolved, secrets masked."""
    from forwarder.config import as_yaml  # noqa: PLC0415 - keeps --help fast

    click.echo(as_yaml(settings_from(config)), nl=False)
