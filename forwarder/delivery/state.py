"""A snapshot of one sink's delivery, for status and health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forwarder.delivery.condition import Condition, worst
from forwarder.delivery.courier import Courier
from forwarder.delivery.faults import hint_of
from forwarder.delivery.lane_reader import LaneReader
from forwarder.delivery.lanes import Lanes
from forwarder.delivery.phases import Phase, Phases

__all__ = ["LaneState", "Phase", "SinkState", "snapshot"]


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


def snapshot(
    name: str,
    phases: Phases,
    conditions: Sequence[Condition],
    courier: Courier,
    lanes: Lanes,
) -> SinkState:
    """Look at the parts of one consumer."""
    trouble = worst(conditions)
    seen = [flight.parcel.seen_us for flight in courier.flights]
    waiting = lanes.oldest_seen_us()
    return SinkState(
        name=name,
        phase=phases.now,
        since_us=phases.since_us,
        error="" if trouble is None else str(trouble),
        hint=hint_of(trouble),
        attempts=max(condition.attempts for condition in conditions),
        in_flight=len(courier.flights),
        window=courier.window.size,
        oldest_unacknowledged_us=min(seen if waiting is None else [*seen, waiting], default=None),
        last_success_us=courier.last_success_us,
        lanes=tuple(_lane_state(reader) for reader in lanes.readers),
    )


def _lane_state(reader: LaneReader) -> LaneState:
    """Return how far a lane is."""
    return LaneState(
        name=reader.name,
        prefix=reader.done.prefix,
        read_to=reader.position,
        end_offset=reader.end_offset,
        caught_up=reader.caught_up,
    )
