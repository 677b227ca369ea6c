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


PORT = click.IntRange(0, 65535)
RATE = click.FloatRange(min=0)
"""Events a second."""


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


class MomentType(click.ParamType[int]):
    """A moment as microseconds since 1970: RFC 3339, or a duration ago such as 2h."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return microseconds, or fail with what is allowed."""
        from forwarder.core.clock import SystemClock  # noqa: PLC0415 - keeps --help fast
        from forwarder.core.timestamps import parse_us  # noqa: PLC0415 - as above
        from forwarder.transport.units import parse_duration  # noqa: PLC0415 - imports pydantic

        time_us = parse_us(value)
        if time_us is not None:
            return time_us
        try:
            return SystemClock().now_us() - round(parse_duration(value) * 1_000_000)
        except ValueError:
            allowed = "write for example 2026-07-01T12:00:00Z, or 2h for two hours ago"
            self.fail(f"{value!r} is no moment; {allowed}", param, ctx)


def window(since_us: int, until_us: int) -> tuple[int, int]:
    """Return both, when there is something between them; else it is a usage error."""
    if since_us >= until_us:
        raise click.UsageError("--until must be later than --since")
    return since_us, until_us


def choice_options(*names: str) -> Callable[[_F], _F]:
    """Add ``--account``, ``--stream``, ``--sink`` as wished; each may be given several times."""

    def add(function: _F) -> _F:
        for name in reversed(names):
            option = click.option(
                f"--{name}", f"{name}s", multiple=True, help=f"Only this {name}; repeatable."
            )
            function = option(function)
        return function

    return add


def yes_option(function: _F) -> _F:
    """Add ``--yes``."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def print_json(value: Any) -> None:
    """Print JSON on stdout, indented."""
    import orjson  # noqa: PLC0415 - keeps --help fast

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def settings_from(path: Path) -> ForwarderSettings:
    """Read the settings; raises ``ConfigError`` with every fault."""
    from forwarder.config import load  # noqa: PLC0415 - imports pydantic and the plugins

    return load(path, os.environ)
