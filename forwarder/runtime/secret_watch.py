"""Secret files that change wake whoever waits for them, so that a new token heals at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from forwarder.core.timing import Clock

Stamp: TypeAlias = tuple[int, int, int] | None

_INTERVAL = 2.0


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Return modification time, size and inode of each file; None for one that is not there."""
    return {file: _stamp(file) for file in files}


def changed(before: Mapping[Path, Stamp], now: Mapping[Path, Stamp]) -> list[Path]:
    """Return the files that are there and differ from before; a vanished one is no news."""
    return [
        file
        for file, stamp in now.items()
        if file in before and stamp is not None and stamp != before[file]
    ]


class SecretWatch:
    """Looks at the files every two seconds; Kubernetes swaps them by a link, so names count."""

    def __init__(
        self,
        files: Callable[[], Iterable[Path]],
        on_change: Callable[[Path], None],
        clock: Clock,
    ) -> None:
        """Ask ``files`` each time, since a reload may change them."""
        self._files = files
        self._on_change = on_change
        self._clock = clock

    async def run(self, beat: Callable[[], None]) -> None:
        """Watch for ever."""
        known = await asyncio.to_thread(stamps, set(self._files()))
        while True:
            beat()
            await self._clock.sleep(_INTERVAL)
            now = await asyncio.to_thread(stamps, set(self._files()))
            for file in changed(known, now):
                self._on_change(file)
            known = {file: stamp or known.get(file) for file, stamp in now.items()}


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
