"""What can be seen of one sink's delivery from outside: its phase, and a snapshot of its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from forwarder.delivery.events import (
    PhaseChanged,
    SinkEvent,
    SinkHeld,
    SinkRecovered,
    SinkWaiting,
)
from forwarder.delivery.pacing import Health, hint_of, worst


class Phase(StrEnum):
    """What a consumer is doing."""

    OPENING = "opening"
    RUNNING = "running"
    WAITING = "waiting"
    """The destination or the journal has failed and will be tried again."""
    HELD = "held"
    """Only a person can fix it; not ready."""
    PAUSED = "paused"
    DRAINING = "draining"


_TROUBLED = frozenset({Phase.HELD, Phase.WAITING})


def phase_of(healths: Sequence[Health], *, usable: bool) -> Phase:
    """Return the phase of a sink that is neither paused nor stopped."""
    troubled = worst(healths)
    if troubled is not None:
        return Phase.HELD if troubled.needs_operator else Phase.WAITING
    return Phase.RUNNING if usable else Phase.OPENING


class PhaseLog:
    """Remembers the phase and when it began; emits each change once."""

    def __init__(self, sink: str, now_us: int, emit: Callable[[SinkEvent], None]) -> None:
        """Begin with opening."""
        self._sink = sink
        self._emit = emit
        self._troubled_since = 0.0
        self.now = Phase.OPENING
        self.since_us = now_us

    def turn(self, phase: Phase, healths: Sequence[Health], now: float, now_us: int) -> None:
        """Record the phase at monotonic ``now``; ``healths`` hold what is wrong."""
        if phase is self.now:
            return
        before, self.now, self.since_us = self.now, phase, now_us
        self._emit(PhaseChanged(self._sink, before, phase))
        if phase in _TROUBLED:
            if before not in _TROUBLED:
                self._troubled_since = now
            health = worst(healths)
            error = health.trouble if health else None
            event = SinkHeld if phase is Phase.HELD else SinkWaiting
            self._emit(event(self._sink, str(error), hint_of(error)))
        # A failure that ends in a pause or a drain has not been overcome.
        elif before in _TROUBLED and phase is Phase.RUNNING:
            self._emit(SinkRecovered(self._sink, now - self._troubled_since))


@dataclass(frozen=True, slots=True)
class LaneState:
    """How far one lane is: all below ``prefix`` is done, all below ``read_to`` was read.

    ``due``: the event at ``prefix`` was handed to the sink before, or could be now.
    """

    name: str
    prefix: int
    read_to: int
    end_offset: int | None
    caught_up: bool
    due: bool


@dataclass(frozen=True, slots=True)
class SinkState:
    """One sink at one moment. Times are microseconds since 1970.

    ``since_us`` is when the phase began; ``error`` and ``hint`` are of the failure that lasts, or
    empty; ``attempts`` counts failures since an event was last accepted. ``in_flight`` and
    ``window`` are numbers of writes. ``oldest_unacknowledged_us`` is when the oldest event that
    still waits was first seen, None when none is known to wait.
    """

    name: str
    phase: Phase
    since_us: int
    error: str
    hint: str
    attempts: int
    in_flight: int
    window: int
    oldest_unacknowledged_us: int | None
    last_success_us: int | None
    lanes: tuple[LaneState, ...]

    @property
    def ready(self) -> bool:
        """Return True unless the sink is held: the only phase that makes the daemon not ready."""
        return self.phase is not Phase.HELD


def together(states: Iterable[SinkState]) -> list[SinkState]:
    """Return one state for each sink, whatever the number of shards it delivers from.

    The least ready speaks for all, and counts are added up.
    """
    found: dict[str, SinkState] = {}
    for one in states:
        have = found.setdefault(one.name, one)
        if have is not one:
            worse = min(have, one, key=lambda state: (state.ready, state.phase is Phase.RUNNING))
            times = [t for t in (have.last_success_us, one.last_success_us) if t is not None]
            found[one.name] = replace(
                worse,
                in_flight=have.in_flight + one.in_flight,
                attempts=max(have.attempts, one.attempts),
                last_success_us=max(times, default=None),
            )
    return list(found.values())
