"""Tells the outside when a sink's phase changes, once for each change."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.delivery.condition import Condition, worst
from forwarder.delivery.events import PhaseChanged, SinkHeld, SinkRecovered, SinkWaiting
from forwarder.delivery.faults import hint_of


class Phase(StrEnum):
    """What a consumer is doing."""

    OPENING = "opening"
    RUNNING = "running"
    WAITING = "waiting"
    """Something is out (the destination, or the journal) and will be tried again."""
    HELD = "held"
    """Only a person can mend it; not ready."""
    PAUSED = "paused"
    DRAINING = "draining"


_TROUBLED = frozenset({Phase.HELD, Phase.WAITING})


class Phases:
    """Remembers the phase, when it began, and when the present trouble began."""

    def __init__(self, sink: str, clock: Clock, emit: Emit) -> None:
        """Begin with opening."""
        self._sink = sink
        self._clock = clock
        self._emit = emit
        self._troubled_since = 0.0
        self.now = Phase.OPENING
        self.since_us = clock.now_us()

    def turn(self, phase: Phase, conditions: Sequence[Condition]) -> None:
        """Take note of the phase; ``conditions`` hold the trouble."""
        if phase is self.now:
            return
        before, self.now, self.since_us = self.now, phase, self._clock.now_us()
        self._emit(PhaseChanged(self._sink, before, phase))
        moment = self._clock.monotonic()
        if phase in _TROUBLED:
            if before not in _TROUBLED:
                self._troubled_since = moment
            error = worst(conditions)
            event = SinkHeld if phase is Phase.HELD else SinkWaiting
            self._emit(event(self._sink, str(error), hint_of(error)))
        elif before in _TROUBLED and phase is Phase.RUNNING:
            self._emit(SinkRecovered(self._sink, moment - self._troubled_since))


def phase_of(conditions: Sequence[Condition], *, usable: bool) -> Phase:
    """Return the phase of a sink that is neither paused nor stopped."""
    troubled = [one for one in conditions if one.trouble is not None]
    if troubled:
        held = any(one.needs_operator for one in troubled)
        return Phase.HELD if held else Phase.WAITING
    return Phase.RUNNING if usable else Phase.OPENING
