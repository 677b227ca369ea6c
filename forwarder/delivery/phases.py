"""Tells the outside when a sink's phase changes, once for each change."""

from __future__ import annotations

from forwarder.core.clock import Clock
from forwarder.core.errors import ForwarderError
from forwarder.core.happenings import Report
from forwarder.delivery.condition import Condition
from forwarder.delivery.faults import hint_of
from forwarder.delivery.happenings import PhaseChanged, SinkHeld, SinkRecovered, SinkWaiting
from forwarder.delivery.sink_state import Phase

_TROUBLED = frozenset({Phase.HELD, Phase.WAITING})


class Phases:
    """Remembers the phase, when it began, and when the present trouble began."""

    def __init__(self, sink: str, clock: Clock, report: Report) -> None:
        """Begin with opening."""
        self._sink = sink
        self._clock = clock
        self._report = report
        self._troubled_since = 0.0
        self.now = Phase.OPENING
        self.since_us = clock.now_us()

    def turn(self, phase: Phase, conditions: tuple[Condition, ...]) -> None:
        """Take note of the phase; ``conditions`` hold the trouble, the worst first."""
        if phase is self.now:
            return
        before, self.now, self.since_us = self.now, phase, self._clock.now_us()
        self._report(PhaseChanged(self._sink, before, phase))
        moment = self._clock.monotonic()
        if phase in _TROUBLED:
            if before not in _TROUBLED:
                self._troubled_since = moment
            error = trouble_of(conditions)
            happening = SinkHeld if phase is Phase.HELD else SinkWaiting
            self._report(happening(self._sink, str(error), hint_of(error)))
        elif before in _TROUBLED and phase is Phase.RUNNING:
            self._report(SinkRecovered(self._sink, moment - self._troubled_since))


def trouble_of(conditions: tuple[Condition, ...]) -> ForwarderError | None:
    """Return the trouble to show: what needs a person before what will pass."""
    troubled = [one for one in conditions if one.trouble is not None]
    worst = sorted(troubled, key=lambda one: not one.needs_operator)
    return worst[0].trouble if worst else None
