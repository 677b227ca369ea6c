"""Measures the longest turn of a daemon's event loop.

Python imports this at its start when this folder is on its path; ``FORWARDER_TURNS`` names the file
for what was found.

A timer of the loop's own looks at the clocks every hundredth of a second. What the loop's thread
computed between two looks is the longest turn in CPU time, and how late the look comes is the
longest turn in wall time. It asks the loop for nothing else, so it works with every kind of loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

_EVERY = 0.01
_STEP = 0.05
_STUCK = 0.5
_CALLS = 6


class Turns:
    """Writes the longest turn to a file whenever there is a longer one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, file: Path) -> None:
        """Begin to look."""
        self._loop = loop
        self._file = file
        self._cpu = self._wall = 0.0
        self._where = ""
        self._used, self._due = time.thread_time(), time.monotonic()
        self._thread = threading.get_ident()
        self._look()
        threading.Thread(target=self._watch, daemon=True, name="turns").start()

    def _look(self) -> None:
        used, now = time.thread_time() - self._used, time.monotonic()
        late = now - self._due
        if used > self._cpu + _STEP or late > self._wall + _STEP:
            self._cpu, self._wall = max(used, self._cpu), max(late, self._wall)
            found = {"cpu": self._cpu, "wall": self._wall, "where": self._where}
            self._file.write_text(json.dumps(found))
        self._used, self._due = time.thread_time(), time.monotonic() + _EVERY
        self._loop.call_later(_EVERY, self._look)

    def _watch(self) -> None:
        """Remember what the loop was doing when a look was overdue."""
        while True:
            time.sleep(_STUCK / 2)  # noqa: TID251 - a thread beside the loop
            frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - there is no public way
            if frame is not None and time.monotonic() > self._due + _STUCK:
                calls = traceback.extract_stack(frame)[-_CALLS:]
                self._where = ", ".join(
                    f"{Path(c.filename).name}:{c.lineno} {c.name}" for c in calls
                )


_run = asyncio.Runner.run


def run(runner: asyncio.Runner, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
    """Run a coroutine as ``asyncio.Runner`` does, and measure its loop."""
    file = Path(os.environ["FORWARDER_TURNS"])

    async def measured() -> Any:
        Turns(asyncio.get_running_loop(), file)
        return await coro

    return _run(runner, measured(), **options)


if "FORWARDER_TURNS" in os.environ:
    asyncio.Runner.run = run  # type: ignore[method-assign, assignment]
