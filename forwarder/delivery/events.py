"""What happens while events are delivered; every field is a name, a count or a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwarder.core.telemetry import (
    DEBUG,
    ERROR,
    INFO,
    WARNING,
    TelemetryEvent,
    event,
    hidden,
    rounded,
    shown,
)
from forwarder.delivery.outgoing import Ages


@dataclass(frozen=True, slots=True)
class SinkEvent(TelemetryEvent):
    """Belongs to one sink, by its name in the settings."""

    sink: str


@event("batch_settled", DEBUG)
class BatchSettled(SinkEvent):
    """A destination answered for a batch.

    ``delivered``, ``rejected`` and ``deferred`` count events by stream. ``events`` and ``bytes``
    are those of the whole batch, ``seconds`` is how long the write took. ``retried`` counts events
    of the batch that had been sent before. ``ages`` are the delivered events' ages by their own
    time, ``seen_ages`` since the forwarder first saw them. Rejected events are dead letters unless
    ``held_back``: then the sink is held and they are sent again.
    """

    lane: str
    events: int
    bytes: int
    seconds: float = rounded(3)
    delivered: Mapping[str, int] = hidden()
    rejected: Mapping[str, int] = hidden()
    deferred: Mapping[str, int] = hidden()
    retried: int = hidden()
    ages: Ages = hidden()
    seen_ages: Ages = hidden()
    held_back: bool = hidden()


def _with_code(notes: Sequence[str]) -> tuple[list[str], str]:
    return list(notes), notes[0].partition(":")[0]


@event("sink_note", WARNING, limited=True)
class BatchNoted(BatchSettled):
    """A destination answered for a batch with a remark.

    ``notes`` are the sink's warnings, at least one, each with a stable code before a colon.
    """

    notes: Sequence[str] = shown("notes", "code", by=_with_code)


def _most_frequent(reasons: Mapping[tuple[str, str], int]) -> tuple[int, str]:
    (_, reason), _ = max(reasons.items(), key=lambda item: item[1])
    return sum(reasons.values()), reason


@event(
    "events_dead_lettered",
    WARNING,
    limited=True,
    hint="forwarder dead-letters list --sink {sink}",
)
class EventsDeadLettered(SinkEvent):
    """A destination refused events for good; they are kept.

    ``reasons`` counts them by stream and reason; the line shows the most frequent reason.
    """

    lane: str
    reasons: Mapping[tuple[str, str], int] = shown("events", "reason", by=_most_frequent)


@event("events_refused_as_expected", INFO, limited=True)
class EventsRefusedAsExpected(SinkEvent):
    """A destination refused events, as expected; they are kept while there is room.

    ``reasons`` counts them as those of ``EventsDeadLettered``.
    """

    lane: str
    reasons: Mapping[tuple[str, str], int] = shown("events", "reason", by=_most_frequent)


@event("batch_split", WARNING, limited=True)
class BatchSplit(SinkEvent):
    """A batch was refused whole or is too large, and is tried in halves.

    ``why`` is ``refused`` or ``too_large``.
    """

    lane: str = hidden()
    why: str = shown("reason")
    events: int
    bytes: int
    error: str


@event("sink_write_failed", WARNING, limited=True)
class WriteFailed(SinkEvent):
    """A batch got no answer or an error; it is sent again.

    ``kind`` is ``outage``, ``timeout``, ``throttled`` or ``operator``.
    """

    lane: str = hidden()
    kind: str = shown("reason")
    events: int
    error: str
    hint: str
    bytes: int = hidden()
    seconds: float = hidden()


@event("sink_opened", INFO, limited=True)
class SinkOpened(SinkEvent):
    """A destination can be written to."""

    seconds: float = rounded(3)


@event("sink_open_failed", WARNING, limited=True)
class OpenFailed(SinkEvent):
    """A destination cannot be reached; the next attempt is in ``retry_in_seconds``.

    ``kind`` is one of those of ``WriteFailed``.
    """

    kind: str = shown("reason")
    error: str
    hint: str
    attempts: int
    wait: float = rounded(1, "retry_in_seconds")


@event("sink_held", ERROR)
class SinkHeld(SinkEvent):
    """A destination refuses events until a person fixes the cause; they wait, and are retried."""

    error: str
    hint: str


@event("sink_waiting", WARNING)
class SinkWaiting(SinkEvent):
    """A destination is unavailable; its events wait in the journal."""

    error: str
    hint: str


@event("sink_recovered", INFO)
class SinkRecovered(SinkEvent):
    """A destination works again."""

    seconds: float = rounded(1, "after_seconds")


@event("sink_throttled", INFO, limited=True)
class SinkThrottled(SinkEvent):
    """A destination asked to slow down; it now gets ``window`` writes at once."""

    window: int
    retry_after: float | None = shown("retry_after_seconds")


@event("sink_phase", DEBUG)
class PhaseChanged(SinkEvent):
    """A sink went from one phase to another.

    The phases are those of ``SinkState.phase``.
    """

    before: str
    after: str


@event("journal_troubled", ERROR, limited=True)
class QueueFailed(SinkEvent):
    """The journal could not be read or written; the operation is retried.

    ``doing`` is ``read`` or ``acknowledge``, ``wait`` the seconds until the next attempt.
    """

    error: str
    hint: str
    doing: str = shown("reason")
    wait: float = hidden()


@event()
class EventsFiltered(SinkEvent):
    """The sink's filters left out ``count`` rows of a stream; they count as done."""

    lane: str
    stream: str
    count: int


@event("lane_finished", INFO)
class LaneFinished(SinkEvent):
    """A sink has everything of a backfill or replay."""

    lane: str


@event("sink_drained", INFO, WARNING)
class SinkDrained(SinkEvent):
    """A sink has stopped; batches without an answer are sent again later.

    ``abandoned`` counts those batches: their writes were cancelled and stay unacknowledged.
    """

    abandoned: int = shown("abandoned_batches")
    seconds: float = rounded(1)

    def is_worse(self) -> bool:
        """Return True if batches were cut off."""
        return self.abandoned > 0
