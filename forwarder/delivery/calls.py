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

    def cut_if_overdue(self, now: float) -> None:
        """Cancel it when its time is up; again and again if the sink shrugs that off."""
        if now < self.deadline:
            return
        self.overdue = True
        self.deadline = now + max(self.patience, 1.0)
        if self.task is not None:
            self.task.cancel()


async def answer(call: Call, work: Awaitable[T], subject: str) -> T | ForwarderError:
    """Await ``work`` and return its result or its error as one of ours.

    Runs in ``call.task``. Raises ``CancelledError`` only when somebody else than the time-out
    cancelled that task.
    """
    try:
        return await work
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling() > (1 if call.overdue else 0):
            raise
        if not call.overdue:
            return TransientError(f"{subject} was cancelled from within")
        task.uncancel()
        return TransientError(
            f"{subject} did not answer within {call.patience:g} s",
            hint="the destination or the way to it hangs; 'timeout' sets how long to wait",
        )
    except ForwarderError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a plugin's bug is an outage of its sink alone
        return foreign(error, subject)
