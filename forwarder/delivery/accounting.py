"""What is reported about a settled write. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

from forwarder.core.contracts import WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
)
from forwarder.core.telemetry import TelemetryEvent
from forwarder.delivery.events import (
    BatchNoted,
    BatchSettled,
    BatchSplit,
    EventsDeadLettered,
    WriteFailed,
)
from forwarder.delivery.faults import hint_of, kind_of
from forwarder.delivery.flights import Flight
from forwarder.delivery.parcels import ages, manifest_of
from forwarder.delivery.settling import Settlement

Outcome: TypeAlias = WriteResult | ForwarderError


def account(
    sink: str, flight: Flight, settlement: Settlement, outcome: Outcome, *, held: bool
) -> Iterator[TelemetryEvent]:
    """Yield what happened to one batch; ``held`` says that no dead letter was written."""
    if isinstance(outcome, WriteResult) or settlement.rejected:
        yield _settled(sink, flight, settlement, outcome, held=held)
        if settlement.rejected and not held:
            yield _dead_lettered(sink, flight, settlement)
    elif isinstance(outcome, BatchRefusedError | BatchTooLargeError):
        yield _split(sink, flight, outcome)
    else:
        yield _failed(sink, flight, outcome)


def _settled(
    sink: str, flight: Flight, settlement: Settlement, outcome: Outcome, *, held: bool
) -> BatchSettled:
    manifest = flight.manifest
    rejected = _streams(flight, (letter.offset for letter in settlement.rejected))
    deferred = _streams(flight, settlement.deferred)
    delivered = manifest
    kept = {letter.offset for letter in settlement.rejected} | settlement.deferred
    if kept and flight.batch.events and settlement.accepted:
        delivered = manifest_of([one for one in flight.batch.events if one.offset not in kept])
    nothing = not settlement.accepted
    notes = tuple(outcome.notes) if isinstance(outcome, WriteResult) else ()
    settled: Callable[..., BatchSettled] = (
        partial(BatchNoted, notes=notes) if notes else BatchSettled
    )
    return settled(
        sink,
        lane=flight.reader.name,
        events=manifest.count,
        bytes=manifest.size,
        seconds=flight.seconds,
        delivered={} if nothing else manifest.streams - rejected - deferred,
        rejected=rejected,
        deferred=deferred,
        retried=manifest.count if flight.parcel.attempts else 0,
        ages=ages(() if nothing else delivered.times_us, flight.ended_us),
        seen_ages=ages(() if nothing else delivered.seen_us, flight.ended_us),
        held_back=held,
    )


def _streams(flight: Flight, offsets: Iterable[int]) -> Counter[str]:
    return Counter(map(partial(_stream_of, flight, _by_offset(flight)), offsets))


def _by_offset(flight: Flight) -> Mapping[int, str]:
    if len(flight.manifest.streams) == 1:
        return {}
    return {event.offset: event.stream for event in flight.batch.events}


def _stream_of(flight: Flight, streams: Mapping[int, str], offset: int) -> str:
    """Return an event's stream; of a mixed batch that was released, the most frequent one."""
    return streams.get(offset) or flight.manifest.streams.most_common(1)[0][0]


def _dead_lettered(sink: str, flight: Flight, settlement: Settlement) -> EventsDeadLettered:
    streams = _by_offset(flight)
    reasons = Counter(
        (_stream_of(flight, streams, letter.offset), letter.reason)
        for letter in settlement.rejected
    )
    return EventsDeadLettered(sink, lane=flight.reader.name, reasons=reasons)


def _split(sink: str, flight: Flight, error: BatchRefusedError | BatchTooLargeError) -> BatchSplit:
    return BatchSplit(
        sink,
        lane=flight.reader.name,
        why="too_large" if isinstance(error, BatchTooLargeError) else "refused",
        events=flight.manifest.count,
        bytes=flight.manifest.size,
        error=str(error),
    )


def _failed(sink: str, flight: Flight, error: ForwarderError) -> WriteFailed:
    return WriteFailed(
        sink,
        lane=flight.reader.name,
        kind=kind_of(error, overdue=flight.call.overdue),
        error=str(error),
        hint=hint_of(error),
        events=flight.manifest.count,
        bytes=flight.manifest.size,
        seconds=flight.seconds,
    )
