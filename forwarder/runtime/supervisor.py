"""Background tasks that do not stay down: a crash is logged and the task starts again.

Each gives signs of life, so that health can name the one that is stuck.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from forwarder.core.errors import TransientError
from forwarder.core.telemetry import Emit, TelemetryEvent
from forwarder.core.timing import Backoff, Clock
from forwarder.observe.events import JournalTroubled, TaskCrashed

Beat: TypeAlias = Callable[[], None]
"""Gives a sign of life; a task calls it at least as often as it was started with."""


Work: TypeAlias = Callable[[Beat], Awaitable[None]]
"""What a task does, from its beginning; called again after a crash."""


# A task that ran for a minute before it crashed is not crashing in a loop.
_CALM = 60.0


_AGAIN_AND_AGAIN = 3


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task as status and health show it; ``silent`` is seconds since its last sign of life.

    ``crashes`` counts all since its start, ``in_a_row`` those without a calm minute between them.
    """

    name: str
    silent: float
    allowed: float
    crashes: int
    in_a_row: int = 0

    @property
    def stuck(self) -> bool:
        """True if the task was silent for longer than it may be."""
        return self.silent > self.allowed

    @property
    def failing(self) -> bool:
        """True if it crashes again and again, so that nobody should wait for it to recover."""
        return self.in_a_row >= _AGAIN_AND_AGAIN


class _Life:
    """The record of one task: its last sign of life and its crashes."""

    def __init__(self, name: str, clock: Clock, allowed: float) -> None:
        self.name = name
        self._clock = clock
        self._allowed = allowed
        self._crashes = 0
        self._in_a_row = 0
        self._beat_at = self._began_at = clock.monotonic()
        self._ending = False

    @property
    def ending(self) -> bool:
        """True if nobody wants the task to run again."""
        return self._ending

    def end(self) -> None:
        self._ending = True

    def begin(self) -> None:
        self._began_at = self._clock.monotonic()

    def beat(self) -> None:
        self._beat_at = self._clock.monotonic()

    def crash(self) -> int:
        """Count a crash; return how many there were in a row."""
        self._crashes += 1
        self._in_a_row = 1 if self._is_calm() else self._in_a_row + 1
        self.beat()
        return self._in_a_row

    def state(self) -> TaskState:
        silent = self._clock.monotonic() - self._beat_at
        in_a_row = 0 if self._is_calm() else self._in_a_row
        return TaskState(self.name, silent, self._allowed, self._crashes, in_a_row)

    def _is_calm(self) -> bool:
        return self._clock.monotonic() - self._began_at > _CALM


class Supervisor:
    """Owns background tasks."""

    def __init__(self, clock: Clock, rng: Random, emit: Emit) -> None:
        """Own nothing yet."""
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._backoff = Backoff()
        self._tasks: dict[str, tuple[_Life, asyncio.Task[None]]] = {}

    def start(self, name: str, work: Work, *, silent_for: float = 300.0) -> None:
        """Run ``work`` until it returns or is stopped.

        It calls the ``beat`` it is given at least every ``silent_for`` seconds.
        """
        if name in self._tasks:
            raise ValueError(f"a task called {name} runs already")
        life = _Life(name, self._clock, silent_for)
        task = asyncio.create_task(self._keep_running(life, work), name=name)
        self._tasks[name] = life, task
        # Only a task that ended by itself or was stopped is forgotten; a crash never ends it.
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def stop(self, *names: str) -> None:
        """Cancel tasks and wait for their end; names that are not running are ignored."""
        for name in names:
            if name in self._tasks:
                life, task = self._tasks[name]
                life.end()
                task.cancel()
        await self.join(*names)

    async def stop_all(self) -> None:
        """Cancel every task and wait."""
        await self.stop(*self._tasks)

    async def join(self, *names: str) -> None:
        """Wait until tasks have ended by themselves."""
        await asyncio.gather(*self._named(names), return_exceptions=True)

    def states(self) -> Sequence[TaskState]:
        """Return the state of every task, in the order they were started."""
        return [life.state() for life, _ in self._tasks.values()]

    def _named(self, names: Sequence[str]) -> list[asyncio.Task[None]]:
        return [self._tasks[name][1] for name in names if name in self._tasks]

    async def _keep_running(self, life: _Life, work: Work) -> None:
        while True:
            life.begin()
            try:
                await work(life.beat)
            except Exception as error:
                # A TaskGroup that is cancelled while a child fails raises the failure only.
                if life.ending:
                    raise
                delay = self._backoff.delay(life.crash(), self._rng)
                self._emit(_failure(life.name, _inner(error), delay))
                await self._clock.sleep(delay)
            else:
                # Work that returns has nothing left to do: a backfill that is complete.
                return


def _failure(task: str, error: BaseException, delay: float) -> TelemetryEvent:
    """Return the event of a task that failed and starts again: an outage is not a bug."""
    if isinstance(error, TransientError):
        return JournalTroubled(f"{task}: {error}", error.hint)
    return TaskCrashed(task, error, delay)


def _inner(error: BaseException) -> BaseException:
    """Return the one error inside a group of one, which is what a person wants to read."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
