"""What follows a change of files while the daemon runs: the settings, and files of secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from forwarder.config import Changes, Difference, ForwarderSettings, changes
from forwarder.core.errors import ConfigError, ForwarderError
from forwarder.core.own_events import Own
from forwarder.core.timing import Clock
from forwarder.observe.events import SettingsReloaded, SettingsWarning
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.replica import Replica
from forwarder.runtime.workers import preflight

SettingsReader: TypeAlias = Callable[[], ForwarderSettings]
"""Reads the settings from their file; raises ``ConfigError`` with every fault."""


Stamp: TypeAlias = tuple[int, int, int] | None


_PAUSE = 2.0
"""Seconds between two looks at watched files."""


class Reloader:
    """Puts new settings into force: what differs is changed, the rest is not touched."""

    def __init__(self, replica: Replica, seat: Seat, read: SettingsReader) -> None:
        """Read nothing yet."""
        self._replica = replica
        self._seat = seat
        self._read = read
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Changes:
        """Read the settings and apply what differs.

        Raises ``ConfigError`` if they have faults, and ``TransientError`` if the database does not
        say which shard has a new account; then the settings in force stay.
        """
        async with self._one_at_a_time:
            # In a thread: files of secrets may be on a slow or hanging file system.
            try:
                new = await asyncio.to_thread(self._read)
                preflight(new)
            except ConfigError as error:
                self._replica.refuse(tuple(str(fault) for fault in error.faults))
                raise
            difference = changes(self._replica.settings, new)
            new = replace(new, root=difference.root)
            self._replica.learn(new)
            await self._replica.place(new)
            # First: a cell that is opened meanwhile begins with the settings in force.
            self._replica.adopt(new, difference.needs_restart)
            for cell in list(self._seat.cells.values()):
                await self._bring(cell)
            await self._report(difference)
            return difference

    async def _bring(self, cell: Cell) -> None:
        """Let a cell follow; if its journal fails, it follows later, and the others follow now."""
        try:
            await cell.follow()
        except ForwarderError as error:
            self._replica.report_journal(error, "the new settings wait for the journal")

    async def _report(self, difference: Changes) -> None:
        replica = self._replica
        for warning in replica.settings.warnings:
            replica.emit(SettingsWarning(warning))
        replica.emit(
            SettingsReloaded(
                replica.config_hash,
                _words(difference.sinks, str),
                _words(difference.streams, lambda key: replica.scope_name(str(key))),
                difference.needs_restart,
            )
        )
        for cell in list(self._seat.cells.values()):
            await cell.note(Own.CONFIG_RELOADED, replica.config_hash)


def _words(difference: Difference, name_of: Callable[[Any], str]) -> tuple[str, ...]:
    """Return ``added NAME``, ``changed NAME`` and ``removed NAME`` for each difference."""
    return tuple(
        f"{what} {name_of(item)}"
        for what in ("added", "changed", "removed")
        for item in getattr(difference, what)
    )


class FileWatch:
    """Notices files that change: a new token ends a failure at once, new settings are reloaded.

    It compares what the names lead to: Kubernetes changes a mounted file by swapping a link, so
    a watch on the files themselves would see nothing.
    """

    def __init__(
        self,
        files: Callable[[], Iterable[Path]],
        on_change: Callable[[Path], None],
        clock: Clock,
        known: Mapping[Path, Stamp] | None = None,
    ) -> None:
        """Call ``files`` each time, since a reload may change them.

        ``known`` are stamps of files that were read before the watch begins.
        """
        self._files = files
        self._on_change = on_change
        self._clock = clock
        self._known = known

    async def run(self, beat: Callable[[], None]) -> None:
        """Watch for ever."""
        known: Mapping[Path, Stamp] = self._known or await self._look()
        seen = known
        while True:
            beat()
            await self._clock.sleep(_PAUSE)
            now = await self._look()
            # A file that is still being written differs at the next look.
            still = {file: stamp for file, stamp in now.items() if stamp == seen.get(file)}
            for file in changed(known, still):
                self._on_change(file)
            # A file that is away for a moment keeps its stamp: it may come back changed.
            known = {file: still.get(file) or known.get(file, now[file]) for file in now}
            seen = now

    async def _look(self) -> dict[Path, Stamp]:
        return await asyncio.to_thread(stamps, set(self._files()))


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Return modification time, size and inode of each file; None for one that is not there."""
    return {file: _stamp(file) for file in files}


def changed(before: Mapping[Path, Stamp], now: Mapping[Path, Stamp]) -> list[Path]:
    """Return the files that are there and differ from before; a missing file has not changed."""
    return [
        file
        for file, stamp in now.items()
        if file in before and stamp is not None and stamp != before[file]
    ]


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
