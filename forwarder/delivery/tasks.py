"""The tasks of one consumer: named, awaited, bounded in time, and what wakes their owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from forwarder.core.errors import ForwarderError, TransientError, unforeseen
from forwarder.core.timing import Clock

T = TypeVar("T")


class TaskSet:
    """Tasks that belong together; ``ended`` is called after each of them has ended."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """Begin with no task."""
        self._ended = ended
        self._crash: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def empty(self) -> bool:
        """Return True if no task runs."""
        return not self._tasks

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task and hold a reference to it until it ends."""
        # asyncio holds tasks weakly: without this reference a task may vanish while it waits.
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._leave)
        return task

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._crash = self._crash or task.exception()
        self._ended()

    def check(self) -> None:
        """Raise the exception that a task ended with: a bug here, which the supervisor handles."""
        if self._crash is not None:
            raise self._crash

    def cancel(self) -> None:
        """Cancel every task."""
        for task in list(self._tasks):
            task.cancel()


class Wakeup:
    """Lets one waiter sleep until it is rung or a moment is reached; has one timer at most."""

    def __init__(self, clock: Clock) -> None:
        """Begin without a timer."""
        self._clock = clock
        self._bell = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None
        self._at = 0.0

    def ring(self) -> None:
        """Wake the waiter, or let its next wait return at once."""
        self._bell.set()

    def clear(self) -> None:
        """Forget earlier rings; call it before looking for work, never after."""
        self._bell.clear()

    async def wait(self, until: float | None) -> None:
        """Return when it is rung or the monotonic clock reaches ``until`` (None: never).

        May return early; the waiter then looks for work once more.
        """
        if self._bell.is_set():
            return
        if until is not None:
            self._arm(until)
        await self._bell.wait()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        # A timer that fires too early costs one look around; replacing it each time costs more.
        if self._timer is not None and not self._timer.done():
            if self._at <= at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = asyncio.create_task(self._ring_at(at), name="delivery timer")

    async def _ring_at(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._clock.monotonic()))
        self._bell.set()


class BoundedCall:
    """One await of the sink that is cancelled when its time is up.

    The owner calls ``cut_if_overdue`` at ``deadline`` (monotonic seconds).
    """

    def __init__(self, started: float, timeout: float) -> None:
        """Allow ``timeout`` seconds from ``started``."""
        self.started = started
        self.deadline = started + timeout
        self.overdue = False
        self._timeout = timeout
        self._task: asyncio.Task[Any] | None = None
        self._abandoned = False

    async def run(self, work: Awaitable[T], subject: str) -> T | ForwarderError:
        """Await ``work`` in the current task; return its result, or its error as one of ours."""
        self._task = asyncio.current_task()
        try:
            return await translated(work, subject)
        except asyncio.CancelledError:
            if self._abandoned:
                raise
            # A library that cancels more than its own work must not make events disappear, so a
            # cancellation that did not come from here is an error like any other.
            return self._cut_short(subject)

    def cut_if_overdue(self, now: float) -> bool:
        """Cancel the call if its time is up; return True if it had ignored that once before.

        It is cancelled again and again, since nothing else can end it.
        """
        if now < self.deadline:
            return False
        ignored, self.overdue = self.overdue, True
        self.deadline = now + max(self._timeout, 1.0)
        if self._task is not None:
            self._task.cancel()
        return ignored

    def abandon(self) -> None:
        """Cancel the call for good; its result is no longer needed."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()

    def _cut_short(self, subject: str) -> TransientError:
        # uncancel() until nothing is pending: otherwise the task's next await is cancelled too.
        while self._task is not None and self._task.uncancel():
            pass
        if not self.overdue:
            return TransientError(f"{subject} was cancelled from within")
        return TransientError(
            f"{subject} did not answer within {self._timeout:g} s",
            hint="the destination or the way to it hangs; 'timeout' sets how long to wait",
        )


async def translated(work: Awaitable[T], subject: str) -> T | ForwarderError:
    """Return the result of ``work``, or its error as one of ours; a cancellation is passed on."""
    try:
        return await work
    except ForwarderError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a bug in a plugin or journal is an outage of one sink
        return _foreign(error, subject)


def _foreign(error: Exception, subject: str) -> TransientError:
    """Return a sentence about a foreign exception, without its text: that may hold a token."""
    return TransientError(
        f"{subject} failed with {unforeseen(error)}",
        hint="an unexpected error; please report it with the line above",
    )
