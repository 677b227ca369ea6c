"""What can be asked of a running daemon through its control socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwarder.admin.server import Command
from forwarder.runtime.parts import Parts
from forwarder.runtime.reloading import Reloader


def commands_of(parts: Parts, reloader: Reloader) -> dict[str, Command]:
    """Return the commands by name; each is a method of ``_Commands``."""
    commands = _Commands(parts, reloader)
    return {
        **parts.operations.table(),
        "backfill": parts.backfills.begin,
        "lane-cancel": parts.backfills.cancel,
        "cursor-set": commands.set_cursor,
        "status": commands.status,
        "reload": commands.reload,
        "wake": commands.wake,
    }


class _Commands:
    def __init__(self, parts: Parts, reloader: Reloader) -> None:
        self._parts = parts
        self._reloader = reloader

    async def set_cursor(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Move a position while nobody reads the stream."""
        return await self._parts.streams.paused(
            str(given["account_id"]), lambda: self._parts.operations.set_cursor(given)
        )

    async def status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer with the whole state."""
        return await self._parts.overview.status()

    async def reload(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the settings anew; a ``ConfigError`` is told with all its faults."""
        difference = await self._reloader.reload()
        return {
            "sinks": _plain(difference.sinks),
            "streams": _plain(difference.streams),
            "needs_restart": difference.needs_restart,
        }

    async def wake(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let everything that waits for a later attempt try now."""
        self._parts.streams.wake()
        self._parts.sinks.wake()
        return {}


def _plain(difference: Any) -> dict[str, list[str]]:
    return {
        name: [str(item) for item in getattr(difference, name)]
        for name in ("added", "changed", "removed")
    }
