"""Named tasks that do not stay down: a crash is logged and the task starts again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from forwarder.core.telemetry import Emit
from forwarder.core.timing import Backoff, Clock
from forwarder.observe.events import TaskCrashed

Beat: TypeAlias = Callable[[], None]
Work: TypeAlias = Callable[[Beat], Awaitable[None]]
"""What a task does, from its beginning; called again after a crash."""

_CALM = 60.0


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task as status and health show it; ``silent`` is seconds since its last sign of life."""

    name: str
    silent: float
    allowed: float
    crashes: int

    @property
    def stuck(self) -> bool:
        """Tell whether it was silent for longer than it may be."""
        return self.silent > self.allowed


@dataclass(slots=True)
class _Task:
    task: asyncio.Task[None]
    beat_at: float
    allowed: float
    crashes: int = 0


class Supervisor:
    """Owns the background tasks of the process."""

    def __init__(self, clock: Clock, rng: Random, emit: Emit) -> None:
        """Own nothing yet."""
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._backoff = Backoff()
        self._tasks: dict[str, _Task] = {}

    def start(self, name: str, work: Work, *, silent_for: float = 300.0) -> None:
        """Run ``work`` until it returns or is stopped.

        It calls the ``beat`` it is given at least every ``silent_for`` seconds.
        """
        if name in self._tasks:
            raise ValueError(f"a task called {name} runs already")
        task = asyncio.create_task(self._keep_running(name, work), name=name)
        self._tasks[name] = _Task(task, self._clock.monotonic(), silent_for)
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def stop(self, *names: str) -> None:
        """Cancel tasks and wait for their end; names that are not running are passed over."""
        tasks = [self._tasks[name].task for name in names if name in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop_all(self) -> None:
        """Cancel every task and wait."""
        await self.stop(*self._tasks)

    async def join(self, *names: str) -> None:
        """Wait until tasks have ended by themselves."""
        tasks = [self._tasks[name].task for name in names if name in self._tasks]
        await asyncio.gather(*tasks, return_exceptions=True)

    def states(self) -> Sequence[TaskState]:
        """Return how every task is, in the order they were started."""
        now = self._clock.monotonic()
        return [
            TaskState(name, now - task.beat_at, task.allowed, task.crashes)
            for name, task in self._tasks.items()
        ]

    async def _keep_running(self, name: str, work: Work) -> None:
        attempt = 0
        while True:
            began = self._clock.monotonic()
            try:
                await work(lambda: self._beat(name))
            except Exception as error:  # noqa: BLE001 - the one place where a crash ends
                attempt = 1 if self._clock.monotonic() - began > _CALM else attempt + 1
                delay = self._backoff.delay(attempt, self._rng)
                self._tasks[name].crashes += 1
                self._emit(TaskCrashed(name, _inner(error), delay))
                self._beat(name)
                await self._clock.sleep(delay)
            else:
                return

    def _beat(self, name: str) -> None:
        if name in self._tasks:
            self._tasks[name].beat_at = self._clock.monotonic()


def _inner(error: BaseException) -> BaseException:
    """Return the one error inside a group of one, which is what a person wants to read."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
