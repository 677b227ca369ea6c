"""The named tasks of one consumer: none is forgotten, and a crash of one is a crash of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Crew:
    """Tasks that belong together; ``ended`` is called after each of them has ended."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """Nobody works yet."""
        self._ended = ended
        self._crash: BaseException | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task and keep hold of it until it ends."""
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._leave)
        return task

    def _leave(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._crash = self._crash or task.exception()
        self._ended()

    def check(self) -> None:
        """Raise what a task died of: a mistake in this program, and the supervisor's business."""
        if self._crash is not None:
            raise self._crash

    def dismiss(self) -> None:
        """Cancel everybody."""
        for task in list(self.tasks):
            task.cancel()
