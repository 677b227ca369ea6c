"""Opens SQLite journals for the contract."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forwarder.core.journal import Journal, Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal.sqlite import SqliteJournal


class SqliteOpener:
    """One journal file in a folder of its own, in memory where there is such a place."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        self.state_dir = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))

    async def open(
        self, keeping: Keeping, *, clock: Clock, emit: Emit, wrap: Callable[[Any], Any]
    ) -> Journal:
        return await SqliteJournal.open(
            self.state_dir, keeping, clock=clock, emit=emit, patience=0.0, wrap=wrap
        )

    def discard(self) -> None:
        shutil.rmtree(self.state_dir)
