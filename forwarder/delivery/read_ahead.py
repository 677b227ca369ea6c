"""Keeps one read of the queue under way while there is something to read ahead."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from forwarder.core.errors import ForwarderError
from forwarder.delivery.crew import Crew
from forwarder.delivery.faults import foreign
from forwarder.delivery.lanes import Lanes
from forwarder.delivery.wiring import Wiring


class ReadAhead:
    """Reads lanes one at a time; a read that fails is repeated after a while."""

    def __init__(self, wiring: Wiring, lanes: Lanes, crew: Crew) -> None:
        """Nothing is under way."""
        self._wiring = wiring
        self._lanes = lanes
        self._crew = crew
        self._reading = False
        self.condition = wiring.condition()

    def keep_going(self, now: float, *, again: bool, suspects: bool) -> None:
        """Start the next read unless one is under way; the flags are those of ``next_read``."""
        if self._reading or now < self.condition.not_before:
            return
        work = self._lanes.next_read(now, again=again, suspects=suspects)
        if work is not None:
            self._reading = True
            self._crew.spawn(self._read(work[1]), f"reading {work[0]} for {self._wiring.name}")

    async def _read(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ForwarderError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - the journal's trouble must not end a sink
            self._failed(foreign(error, "reading from the journal"))
        else:
            self.condition.accepted()
        finally:
            self._reading = False

    def _failed(self, error: ForwarderError) -> None:
        now = self._wiring.clock.monotonic()
        self.condition.failed(error, now)
        self._wiring.queue_failed("read", error, self.condition.not_before - now)
