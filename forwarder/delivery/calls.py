"""Awaits of a sink: each has a time-out, and gives a result or one of our errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from forwarder.core.errors import ForwarderError, TransientError
from forwarder.delivery.faults import foreign

T = TypeVar("T")


class Call:
    """One await of the sink that is cancelled when its time is up.

    ``deadline`` is a moment of the monotonic clock. The task is set by whoever starts it.
    """

    def __init__(self, started: float, patience: float) -> None:
        """Allow ``patience`` seconds from ``started``."""
        self.started = started
        self.patience = patience
        self.deadline = started + patience
        self.task: asyncio.Task[None] | None = None
        self.overdue = False
        self.abandoned = False

    def cut_if_overdue(self, now: float) -> None:
        """Cancel it when its time is up; again and again if the sink shrugs that off."""
        if now < self.deadline:
            return
        self.overdue = True
        self.deadline = now + max(self.patience, 1.0)
        if self.task is not None:
            self.task.cancel()

    def abandon(self) -> None:
        """Cancel it for good: nobody wants its result any more."""
        self.abandoned = True
        if self.task is not None:
            self.task.cancel()


async def answer(call: Call, work: Awaitable[T], subject: str) -> T | ForwarderError:
    """Await ``work`` in ``call.task`` and return its result or its error as one of ours.

    A cancellation is an error like any other unless the call was abandoned, so that no library
    that cancels more than its own work can make events disappear.
    """
    try:
        return await work
    except asyncio.CancelledError:
        if call.abandoned:
            raise
        return _cut_short(call, subject)
    except ForwarderError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a plugin's bug is an outage of its sink alone
        return foreign(error, subject)


def _cut_short(call: Call, subject: str) -> TransientError:
    task = asyncio.current_task()
    while task is not None and task.uncancel():
        pass
    if not call.overdue:
        return TransientError(f"{subject} was cancelled from within")
    return TransientError(
        f"{subject} did not answer within {call.patience:g} s",
        hint="the destination or the way to it hangs; 'timeout' sets how long to wait",
    )
