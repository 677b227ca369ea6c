"""What becomes of a batch after a write: done, dead, or again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from forwarder.core.contracts import Rejection, WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
)
from forwarder.core.log import EXPECTED_REFUSAL, DeadLetter
from forwarder.delivery.events import (
    BatchNoted,
    BatchSettled,
    BatchSplit,
    EventsDeadLettered,
    EventsRefusedAsExpected,
    SinkEvent,
    WriteFailed,
)
from forwarder.delivery.offsets import Ranges, contains, points, without
from forwarder.delivery.outgoing import NOTHING, OutgoingBatch, Summary, ages, summarise
from forwarder.delivery.pacing import Breaker, Pace, hint_of, kind_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a write ended.

    ``answer`` is the sink's result, or why there is none. ``asked``: the sink got to see the
    batch. ``overdue``: it did not answer in time. ``ended_us`` is the wall clock at the end.
    """

    answer: WriteResult | ForwarderError
    asked: bool
    overdue: bool
    seconds: float
    ended_us: int


@dataclass(frozen=True, slots=True)
class MayGiveUp:
    """What decides whether refused events may become dead letters.

    ``room`` is how many more events the dead letters take, or why that is unknown.
    """

    breaker: Breaker
    room: int | ForwarderError = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one batch. Every offset of it is in ``done`` or in one batch of ``again``.

    ``done`` are the offsets to acknowledge, those of ``dead`` among them. ``pace`` is what the
    write has shown about the destination, ``events`` what to emit.
    """

    pace: Pace
    events: tuple[SinkEvent, ...]
    done: Ranges = ()
    dead: tuple[DeadLetter, ...] = ()
    again: tuple[OutgoingBatch, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sorted:
    """A batch sorted out event by event, by offset and reason."""

    refused: Mapping[int, DeadLetter] = field(default_factory=dict)
    expected: Mapping[int, DeadLetter] = field(default_factory=dict)
    deferred: frozenset[int] = frozenset()


def may_refuse(batch: OutgoingBatch, outcome: Outcome) -> bool:
    """Return True if events may be given up, so that ``decide`` must know whether they may."""
    match outcome.answer:
        case WriteResult(rejected=rejected):
            return bool(batch.unsendable) or any(not one.expected for one in rejected)
        case BatchRefusedError() | BatchTooLargeError():
            return batch.count == 1
    return False


def decide(sink: str, batch: OutgoingBatch, outcome: Outcome, may_give_up: MayGiveUp) -> Verdict:
    """Decide about a batch by how its write ended; looks at the batch once."""
    answer = outcome.answer
    match answer:
        case WriteResult():
            return _follow(sink, batch, outcome, _sort(batch, answer), may_give_up)
        case BatchRefusedError() | BatchTooLargeError() if batch.count == 1:
            # One event was refused alone: that names it, as a result does.
            size = batch.batch.size if isinstance(answer, BatchTooLargeError) else None
            letter = DeadLetter(batch.summary.first_offset, str(answer), size)
            return _follow(sink, batch, outcome, _Sorted({letter.offset: letter}), may_give_up)
        case BatchRefusedError() | BatchTooLargeError():
            return _split(sink, batch, outcome, answer, may_give_up.breaker)
    event = WriteFailed(
        sink,
        lane=batch.lane,
        kind="timeout" if outcome.overdue else kind_of(answer),
        error=str(answer),
        hint=hint_of(answer),
        events=batch.count,
        bytes=batch.batch.size,
        seconds=outcome.seconds,
    )
    pace = Pace(may_give_up.breaker, outcome.asked, error=answer)
    return Verdict(pace, (event,), again=(batch.again(),))


def _sort(batch: OutgoingBatch, result: WriteResult) -> _Sorted:
    """Follow a result event by event; offsets that were not in the batch are ignored."""
    if not (result.rejected or result.deferred or batch.unsendable):
        return _Sorted()
    letters = {one.offset: _letter(one) for one in result.rejected} | dict(batch.unsendable)
    own = [letters[at] for at in sorted(letters) if contains(batch.ranges, at)]
    # Refused goes before put off: an event is never sent again after it became a dead letter.
    deferred = (at for at in result.deferred if at not in letters and contains(batch.ranges, at))
    return _Sorted(
        {one.offset: one for one in own if not one.expected},
        {one.offset: one for one in own if one.expected},
        frozenset(deferred),
    )


def _letter(rejection: Rejection) -> DeadLetter:
    expected = EXPECTED_REFUSAL if rejection.expected else ""
    return DeadLetter(rejection.offset, expected + rejection.reason)


def _follow(
    sink: str, batch: OutgoingBatch, outcome: Outcome, found: _Sorted, may_give_up: MayGiveUp
) -> Verdict:
    """Settle a batch whose events have a fate each."""
    refused, deferred = found.refused, found.deferred
    accepted = max(0, batch.count - len(refused) - len(found.expected) - len(deferred))
    breaker = may_give_up.breaker.accepted() if accepted else may_give_up.breaker
    # Suspects do not count for the breaker once more: since they were kept, either something else
    # was accepted, and they are at fault, or nothing was, and it is still open.
    if refused and not accepted and not batch.suspect:
        breaker = breaker.refused(letter.reason for letter in refused.values())
    fault = _forbids(batch, refused, breaker, may_give_up.room) if refused else None
    again = []
    if deferred:
        again.append(batch.part(points(deferred), len(deferred), deferred=True))
    if fault is not None:
        again.append(batch.part(points(refused), len(refused), suspect=True))
    kept = deferred if fault is None else deferred | refused.keys()
    dead = found.expected if fault is not None else {**refused, **found.expected}
    pace = Pace(
        breaker,
        outcome.asked,
        accepted,
        deferred=bool(deferred),
        attempts=batch.attempts + 1,
        result=outcome.answer if isinstance(outcome.answer, WriteResult) else None,
        error=fault,
        kept=fault is not None,
    )
    return Verdict(
        pace,
        tuple(_reports(sink, batch, outcome, found, held=fault is not None)),
        done=without(batch.ranges, kept) if kept else batch.ranges,
        dead=tuple(dead[offset] for offset in sorted(dead)),
        again=tuple(again),
    )


def _forbids(
    batch: OutgoingBatch,
    refused: Mapping[int, DeadLetter],
    breaker: Breaker,
    room: int | ForwarderError,
) -> ForwarderError | None:
    """Return why refused events must not become dead letters, None if they may."""
    last = refused[max(refused)]
    if breaker.tripped:
        own = last.offset in batch.unsendable and last.size is None
        return _mass_refusal(last, unrendered=own)
    if isinstance(room, ForwarderError):
        return room
    if room < len(refused):
        return NeedsOperatorError(
            f"no room for more dead letters; the last one's reason: {last.reason}",
            hint="look at them with 'forwarder dead-letters list', then replay or drop them",
        )
    return None


def _mass_refusal(last: DeadLetter, *, unrendered: bool) -> NeedsOperatorError:
    """Return why no more events are given up: the fault is in none of them."""
    if unrendered:
        return NeedsOperatorError(
            f"one event after the other {last.reason}",
            hint="fix the sink's format or choose another one; nothing was given up since",
        )
    return NeedsOperatorError(
        f"the destination refuses one event after the other: {last.reason}",
        hint="fix the destination or the sink's settings; nothing was given up since",
    )


def _split(
    sink: str,
    batch: OutgoingBatch,
    outcome: Outcome,
    error: BatchRefusedError | BatchTooLargeError,
    breaker: Breaker,
) -> Verdict:
    """Halve a batch that was refused whole."""
    size, too_large = batch.batch.size, isinstance(error, BatchTooLargeError)
    event = BatchSplit(
        sink,
        lane=batch.lane,
        why="too_large" if too_large else "refused",
        events=batch.count,
        bytes=size,
        error=str(error),
    )
    pace = Pace(breaker, outcome.asked, too_large=size if too_large else None)
    return Verdict(pace, (event,), again=batch.halves())


def _reports(
    sink: str, batch: OutgoingBatch, outcome: Outcome, found: _Sorted, *, held: bool
) -> Iterable[SinkEvent]:
    """Yield what happened to a batch; ``held``: its refused events were kept."""
    streams = _streams(batch, found)
    rejected, expected, deferred = (
        Counter(streams[at] for at in offsets)
        for offsets in (found.refused, found.expected, found.deferred)
    )
    accepted = batch.count > len(streams)
    delivered = _delivered(batch, streams) if accepted else NOTHING
    notes = tuple(outcome.answer.notes) if isinstance(outcome.answer, WriteResult) else ()
    settled: Callable[..., BatchSettled]
    settled = partial(BatchNoted, notes=notes) if notes else BatchSettled
    yield settled(
        sink,
        lane=batch.lane,
        events=batch.count,
        bytes=batch.batch.size,
        seconds=outcome.seconds,
        delivered=batch.summary.streams - rejected - expected - deferred if accepted else {},
        rejected=rejected,
        deferred=deferred,
        retried=batch.count if batch.attempts else 0,
        ages=ages(delivered.times_us, outcome.ended_us),
        seen_ages=ages(delivered.seen_us, outcome.ended_us),
        held_back=held,
    )
    if rejected and not held:
        reasons = Counter((streams[at], one.reason) for at, one in found.refused.items())
        yield EventsDeadLettered(sink, lane=batch.lane, reasons=reasons)
    if expected:
        reasons = Counter((streams[at], one.reason) for at, one in found.expected.items())
        yield EventsRefusedAsExpected(sink, lane=batch.lane, reasons=reasons)


def _streams(batch: OutgoingBatch, found: _Sorted) -> Mapping[int, str]:
    """Return the stream of each event that was not accepted, by offset.

    Of a mixed batch whose events were released, that is the most frequent one.
    """
    offsets = {*found.refused, *found.expected, *found.deferred}
    if not offsets:
        return {}
    streams = dict.fromkeys(offsets, batch.summary.streams.most_common(1)[0][0])
    if len(batch.summary.streams) > 1:
        streams |= {e.offset: e.stream for e in batch.events if e.offset in offsets}
    return streams


def _delivered(batch: OutgoingBatch, others: Mapping[int, str]) -> Summary:
    """Summarise what was accepted; of released events, the whole batch is the best guess."""
    if not others or not batch.events:
        return batch.summary
    return summarise([event for event in batch.events if event.offset not in others])
