"""Options that several commands take, and how they find the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings

_F = TypeVar("_F", bound=Callable[..., Any])


def config_option(function: _F) -> _F:
    """Add ``-c/--config``."""
    return click.option(
        "-c",
        "--config",
        "config",
        type=click.Path(path_type=Path, dir_okay=False),
        default="config.yaml",
        envvar="FORWARDER_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The settings file.",
    )(function)


def json_option(function: _F) -> _F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


class DurationType(click.ParamType[float]):
    """A duration such as 10s or 5m, as seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds, or fail with what is allowed."""
        from forwarder.transport.units import parse_duration  # noqa: PLC0415 - imports pydantic

        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def settings_from(path: Path) -> ForwarderSettings:
    """Read the settings; raises ``ConfigError`` with every fault."""
    from forwarder.config import load  # noqa: PLC0415 - imports pydantic and the plugins

    return load(path, os.environ)
