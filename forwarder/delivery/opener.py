"""Opens the sink, at the start and after each failed write, with a time-out."""

from __future__ import annotations

from forwarder.core.errors import ForwarderError
from forwarder.delivery.calls import Call, answer
from forwarder.delivery.condition import Condition
from forwarder.delivery.crew import Crew
from forwarder.delivery.events import OpenFailed, SinkOpened
from forwarder.delivery.faults import hint_of, kind_of
from forwarder.delivery.wiring import Wiring


class Opener:
    """At most one attempt at a time; ``call`` is the one under way."""

    def __init__(self, wiring: Wiring, condition: Condition, crew: Crew, timeout: float) -> None:
        """Nothing is under way."""
        self._wiring = wiring
        self._condition = condition
        self._crew = crew
        self._timeout = timeout
        self.call: Call | None = None

    def start(self, now: float) -> None:
        """Begin an attempt; the condition tells what came of it."""
        self.call = Call(now, self._timeout)
        work = self._open(self.call)
        self.call.task = self._crew.spawn(work, f"opening {self._wiring.name}")

    async def _open(self, call: Call) -> None:
        name, clock = self._wiring.name, self._wiring.clock
        try:
            outcome = await answer(call, self._wiring.sink.open(), f"opening {name}")
        finally:
            self.call = None
        now = clock.monotonic()
        if not isinstance(outcome, ForwarderError):
            self._condition.opened()
            self._wiring.emit(SinkOpened(name, now - call.started))
            return
        self._condition.failed(outcome, now, writing=False)
        self._wiring.emit(
            OpenFailed(
                name,
                kind=kind_of(outcome, overdue=call.overdue),
                error=str(outcome),
                hint=hint_of(outcome),
                attempts=self._condition.attempts,
                wait=self._condition.not_before - now,
            )
        )
