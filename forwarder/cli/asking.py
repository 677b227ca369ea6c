"""How a command reaches the state folder: through the daemon if one runs, else by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from forwarder.config import ForwarderSettings

T = TypeVar("T")


def carry_out(settings: ForwarderSettings, name: str, given: Mapping[str, Any]) -> Any:
    """Let the running daemon carry out an operation, or do it here when none runs."""
    from forwarder.admin.client import NoDaemonError, ask  # noqa: PLC0415 - keeps --help fast

    try:
        return ask(settings.root.state_dir, name, given)
    except NoDaemonError:
        from forwarder.runtime import alone  # noqa: PLC0415 - imports everything

        return alone.carry_out(settings, name, given)


def read(state_dir: Path, question: Callable[[sqlite3.Connection], T]) -> T:
    """Ask the journal something, read-only, whether a daemon runs or not."""
    from forwarder.journal import Shelf  # noqa: PLC0415 - keeps --help fast

    async def ask_shelf() -> T:
        shelf = Shelf(state_dir)
        try:
            return await shelf.query(question)
        finally:
            await shelf.aclose()

    return asyncio.run(ask_shelf())
