"""Stores progress and dead letters beside the writing, never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from forwarder.core.errors import ForwarderError
from forwarder.core.log import DeadLetter, Progress
from forwarder.delivery.faults import foreign
from forwarder.delivery.wiring import Wiring


class Acknowledger:
    """Groups acknowledgements: while one is being stored, the next ones become one.

    ``changed`` is called after each attempt. While ``condition`` is in trouble the consumer
    starts no writes: what is delivered but not acknowledged must not grow without end.
    """

    def __init__(self, wiring: Wiring, *, changed: Callable[[], None]) -> None:
        """Nothing is pending."""
        self._wiring = wiring
        self._changed = changed
        self._pending: dict[str, tuple[Callable[[], Progress], list[DeadLetter]]] = {}
        self._bell = asyncio.Event()
        self._storing = False
        self.condition = wiring.condition()
        self.stored: dict[str, Progress] = {}

    @property
    def idle(self) -> bool:
        """Say whether everything that was marked is stored."""
        return not self._pending and not self._storing

    @property
    def dead_pending(self) -> int:
        """Return how many dead letters are not stored yet."""
        return sum(len(letters) for _, letters in self._pending.values())

    def mark(
        self, lane: str, progress: Callable[[], Progress], dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Have ``lane`` stored soon.

        ``progress`` is asked at that moment; it must already count the offsets of ``dead``, so
        that no progress passes a dead letter that is not stored with it.
        """
        _, letters = self._pending.setdefault(lane, (progress, []))
        letters.extend(dead)
        self._bell.set()

    def forget(self, lane: str) -> None:
        """Store nothing more for a lane that was cancelled."""
        if self._pending.pop(lane, None) is not None and not self._pending:
            self.condition.accepted()

    async def run(self) -> None:
        """Store what is marked, until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._pending:
                await self._store(next(iter(self._pending)))

    async def _store(self, lane: str) -> None:
        progress_of, letters = self._pending.pop(lane)
        progress, self._storing = progress_of(), True
        try:
            await self._wiring.queue.acknowledge(lane, progress, letters)
        except ForwarderError as error:
            await self._try_later(lane, progress_of, letters, error)
        except Exception as error:  # noqa: BLE001 - the journal's trouble must not end a sink
            await self._try_later(
                lane, progress_of, letters, foreign(error, "acknowledging in the journal")
            )
        else:
            self.condition.accepted()
            self.stored[lane] = progress
        finally:
            self._storing = False
            self._changed()

    async def _try_later(
        self,
        lane: str,
        progress_of: Callable[[], Progress],
        letters: list[DeadLetter],
        error: ForwarderError,
    ) -> None:
        _, newer = self._pending.get(lane, (progress_of, []))
        self._pending[lane] = (progress_of, letters + newer)
        now = self._wiring.clock.monotonic()
        self.condition.failed(error, now)
        wait = self.condition.not_before - now
        self._wiring.queue_failed("acknowledge", error, wait)
        self._changed()
        await self._wiring.clock.sleep(wait)
