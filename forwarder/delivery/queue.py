"""What the engine needs of whatever keeps the events: one object for each sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forwarder.core.contracts import StoredPage
from forwarder.core.log import DeadLetter, Lane, Progress

__all__ = ["DeadLetter", "Lane", "Progress", "SinkQueue"]


class SinkQueue(Protocol):
    """One sink's view of the stored events.

    All lanes share one sequence of offsets, so the offsets inside a lane may jump. Any method may
    raise; the consumer then waits and calls again, and nothing is lost meanwhile.
    """

    async def lanes(self) -> Sequence[Lane]:
        """Return what there is to work through, the live lane first.

        Called at the start, after each return of ``wait`` and when a lane has ended.
        """
        ...

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Return about ``max_rows`` rows at or after ``offset``, in order; ``[]``: none yet.

        The first page may be the tail of a stored page. The same rows are read again after a
        failure, and rows that have vanished meanwhile (``drop_oldest``) count as done.
        """
        ...

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Store how far the sink has come, together with its dead letters; durable on return.

        ``progress`` is complete, not a difference. Never called twice at the same time; after an
        exception the same dead letters come again.
        """
        ...

    async def wait(self, lane: str, offset: int) -> None:
        """Return when rows at or after ``offset`` may exist, or the set of lanes has changed."""
        ...

    async def dead_letter_room(self) -> tuple[int, int]:
        """Return how many events and bytes may still become dead letters."""
        ...
