"""A sink that answers as it is told and keeps exact accounts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from forwarder.core.model import ACCEPTED, Batch, BatchLimits, WriteResult

Answer: TypeAlias = WriteResult | Exception | Callable[[Batch], Awaitable[WriteResult]]
"""A result to return, an error to raise, or a coroutine function of the batch that does either."""


async def hang(_: Batch) -> WriteResult:
    """Never answer; for ``answers`` and ``otherwise``."""
    await asyncio.Event().wait()
    return ACCEPTED


@dataclass
class ScriptedSink:
    """A ``Sink`` for tests of whatever writes to sinks.

    ``answers`` are given to the writes in the order in which they start; after that every write
    is answered with ``otherwise``. ``opening`` does the same for ``open``; None is success. An
    event counts as delivered when an answer accepts it::

        sink = ScriptedSink(answers=[TransientError("away"), ACCEPTED])
        ...
        assert sink.delivered == Counter(range(100))

    ``writes`` holds the offsets of each write, ``most_at_once`` the highest number of writes
    under way together. ``release`` lets go of the events before answering, as a sink does that
    has handed the bytes over.
    """

    answers: list[Answer] = field(default_factory=list)
    otherwise: Answer = ACCEPTED
    opening: list[Exception | None] = field(default_factory=list)
    limits: BatchLimits = field(default_factory=BatchLimits)
    release: bool = False
    delivered: Counter[int] = field(default_factory=Counter)
    writes: list[list[int]] = field(default_factory=list)
    opens: int = 0
    closes: int = 0
    under_way: int = 0
    most_at_once: int = 0

    async def open(self) -> None:
        """Take the next entry of ``opening``."""
        assert self.under_way == 0, "opened while a write was under way"
        self.opens += 1
        error = self.opening.pop(0) if self.opening else None
        if error is not None:
            raise error

    async def write(self, batch: Batch) -> WriteResult:
        """Take the next answer, and keep account of what it accepts."""
        seen = Batch(batch.events, batch.size)
        if self.release:
            batch.release()
        self.writes.append([event.offset for event in seen.events])
        answer = self.answers.pop(0) if self.answers else self.otherwise
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            result = await _follow(answer, seen)
        finally:
            self.under_way -= 1
        refused = {rejection.offset for rejection in result.rejected} | result.deferred
        self.delivered.update(e.offset for e in seen.events if e.offset not in refused)
        return result

    async def aclose(self) -> None:
        """Count; may be called as often as one likes."""
        self.closes += 1


async def _follow(answer: Answer, batch: Batch) -> WriteResult:
    await asyncio.sleep(0)
    if isinstance(answer, Exception):
        raise answer
    return answer if isinstance(answer, WriteResult) else await answer(batch)
