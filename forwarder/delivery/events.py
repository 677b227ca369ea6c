"""What happens while events are delivered; every field is a name, a count or a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forwarder.core.telemetry import TelemetryEvent
from forwarder.delivery.parcels import Ages


@dataclass(frozen=True, slots=True)
class SinkEvent(TelemetryEvent):
    """Something about one sink, by its name in the settings."""

    sink: str


@dataclass(frozen=True, slots=True)
class BatchSettled(SinkEvent):
    """The destination answered a write: what it took, refused and put off, by stream.

    ``events`` and ``bytes`` are of the whole batch, ``seconds`` is how long the write took.
    ``retried`` counts events of the batch that had been sent before. ``ages`` are the delivered
    events' ages by their own time, ``seen_ages`` since they were first seen here. ``notes`` are
    the sink's warnings, each with a stable code before a colon. Rejected events are dead letters
    unless ``held_back``: then the sink is held and they are sent again.
    """

    lane: str
    events: int
    bytes: int
    seconds: float
    delivered: Mapping[str, int]
    rejected: Mapping[str, int]
    deferred: Mapping[str, int]
    retried: int
    ages: Ages
    seen_ages: Ages
    notes: Sequence[str] = ()
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class EventsDeadLettered(SinkEvent):
    """Events were given up: ``reasons`` counts them by stream and reason."""

    lane: str
    reasons: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class BatchSplit(SinkEvent):
    """A batch was refused whole (``why`` is ``refused``) or was ``too_large``, and is halved."""

    lane: str
    why: str
    events: int
    bytes: int
    error: str


@dataclass(frozen=True, slots=True)
class WriteFailed(SinkEvent):
    """A write ended without an answer: its ``events`` are sent again.

    ``kind`` is ``outage``, ``timeout``, ``throttled`` or ``operator``.
    """

    lane: str
    kind: str
    error: str
    hint: str
    events: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SinkOpened(SinkEvent):
    """The sink said that writing can work."""

    seconds: float


@dataclass(frozen=True, slots=True)
class OpenFailed(SinkEvent):
    """The sink could not be opened; the next attempt is in ``wait`` seconds."""

    kind: str
    error: str
    hint: str
    attempts: int
    wait: float


@dataclass(frozen=True, slots=True)
class SinkHeld(SinkEvent):
    """Only a person can mend this sink; it keeps everything and tries again slowly."""

    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class SinkWaiting(SinkEvent):
    """The sink is out; its events wait."""

    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class SinkRecovered(SinkEvent):
    """The sink works again, ``seconds`` after the trouble began."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SinkThrottled(SinkEvent):
    """The destination asked for less; ``window`` writes at once are allowed from now on."""

    window: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class PhaseChanged(SinkEvent):
    """The sink's phase, as ``SinkState.phase`` has it, is another one."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class QueueFailed(SinkEvent):
    """The journal could not be used (``doing`` is ``read`` or ``acknowledge``); tried again."""

    doing: str
    error: str
    hint: str = ""
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class EventsFiltered(SinkEvent):
    """The sink's filters left out ``count`` rows of a stream; they count as done."""

    lane: str
    stream: str
    count: int


@dataclass(frozen=True, slots=True)
class LaneFinished(SinkEvent):
    """Every event of a lane with an end is delivered or dead, and that is stored."""

    lane: str


@dataclass(frozen=True, slots=True)
class SinkDrained(SinkEvent):
    """The sink was stopped: ``abandoned`` writes were cancelled and stay unacknowledged."""

    abandoned: int
    seconds: float = field(default=0.0)
