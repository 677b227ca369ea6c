"""A snapshot of one sink's delivery, for status and health."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from forwarder.delivery.lane_reader import LaneReader


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


@dataclass(frozen=True, slots=True)
class LaneState:
    """How far one lane is: all below ``prefix`` is done, all below ``read_to`` was read."""

    name: str
    prefix: int
    read_to: int
    end_offset: int | None
    caught_up: bool


@dataclass(frozen=True, slots=True)
class SinkState:
    """One sink at one moment. Times are microseconds since 1970.

    ``since_us`` is when the phase began; ``error`` and ``hint`` are of the trouble that lasts, or
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
        """Say whether this sink lets the whole be called ready: only ``held`` does not."""
        return self.phase is not Phase.HELD


def lane_state(reader: LaneReader) -> LaneState:
    """Return how far a lane is."""
    return LaneState(
        name=reader.name,
        prefix=reader.done.prefix,
        read_to=reader.position,
        end_offset=reader.end_offset,
        caught_up=reader.caught_up,
    )
