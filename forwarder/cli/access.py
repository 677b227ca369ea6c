"""How a command reaches the settings, the running daemon and the journal.

What changes the journal goes through the daemon if one runs, and is done in this process if none
does. Reading works beside a daemon and without one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from forwarder.config.models import ForwarderSettings

T = TypeVar("T")


def settings_from(path: Path) -> ForwarderSettings:
    """Read the settings; raises ``ConfigError`` with every fault."""
    from forwarder.config.loading import load  # noqa: PLC0415 - imports pydantic and the plugins

    return load(path, os.environ)


def labels_of(settings: ForwarderSettings) -> dict[str, str]:
    """Return the accounts' labels by id."""
    return {account.account_id: account.label for account in settings.accounts}


def status_of(state_dir: Path) -> Any:
    """Return the status of the running daemon; raises ``NoDaemonError`` if none runs."""
    from forwarder.admin.client import ask  # noqa: PLC0415 - keeps --help fast

    return ask(state_dir, "status")


def carry_out(settings: ForwarderSettings, name: str, given: Mapping[str, Any]) -> Any:
    """Have an operation carried out by the running daemon, or do it here if none runs."""
    from forwarder.admin.client import NoDaemonError, ask  # noqa: PLC0415 - keeps --help fast

    try:
        return ask(settings.root.state_dir, name, given)
    except NoDaemonError:
        from forwarder.runtime import operations  # noqa: PLC0415 - imports everything

        return operations.carry_out(settings, name, given)


def backfill(
    settings: ForwarderSettings,
    order: Mapping[str, Any],
    *,
    detach: bool,
    watch: Callable[[Mapping[str, Any]], None],
) -> tuple[Any, bool]:
    """Begin a backfill; without a daemon, carry it out here, and call ``watch`` with each status.

    Returns the answer, and True if a daemon has taken the backfill over. Raises ``NoDaemonError``
    if ``detach`` is wanted and no daemon runs.
    """
    from forwarder.admin.client import NoDaemonError, ask  # noqa: PLC0415 - keeps --help fast

    try:
        return ask(settings.root.state_dir, "backfill", order), True
    except NoDaemonError:
        if detach:
            raise
        from forwarder.runtime import operations  # noqa: PLC0415 - imports everything

        return operations.backfill(settings, order, watch), False


def read(state_dir: Path, question: Callable[[sqlite3.Connection], T]) -> T:
    """Ask the journal something, read-only, whether a daemon runs or not."""
    from forwarder.journal.reader import JournalReader  # noqa: PLC0415 - keeps --help fast

    async def asked() -> T:
        reader = JournalReader(state_dir)
        try:
            return await reader.query(question)
        finally:
            await reader.aclose()

    return asyncio.run(asked())
