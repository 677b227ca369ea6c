"""What becomes of a batch after a write."""

import math
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import ACCEPTED, BatchEvent, Rejection, WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.core.log import DeadLetter
from forwarder.delivery.events import (
    BatchSettled,
    BatchSplit,
    EventsDeadLettered,
    EventsRefusedAsExpected,
    WriteFailed,
)
from forwarder.delivery.offsets import Ranges, points
from forwarder.delivery.outgoing import Cut, OutgoingBatch, new_batch
from forwarder.delivery.pacing import Breaker
from forwarder.delivery.verdict import MayGiveUp, Outcome, Verdict, decide, may_refuse
from forwarder.testing.fake_sinks import make_event

Answer: TypeAlias = WriteResult | ForwarderError
SIZES = st.integers(1, 30)
ROOM = 10_000
ROOMS: list[int | ForwarderError] = [0, 2, ROOM, TransientError("the journal is away")]


def _batch(count: int, failed: frozenset[int] = frozenset()) -> OutgoingBatch:
    """Return events at every third offset from 1; the range begins and ends without one."""
    events = [make_event(1 + 3 * i) for i in range(count)]
    size = sum(len(event.body) for event in events)
    unsendable = {at: DeadLetter(at, "cannot be rendered") for at in failed}
    return new_batch("live", Cut(events, (0, 3 * count + 2), size), unsendable)


def _decide(
    batch: OutgoingBatch,
    answer: Answer,
    *,
    release: bool = False,
    breaker: int = 10_000,
    room: int | ForwarderError = ROOM,
) -> Verdict:
    if release:
        batch.batch.release()
    outcome = Outcome(answer, asked=True, overdue=False, seconds=0.5, ended_us=10**18)
    return decide("siem", batch, outcome, MayGiveUp(Breaker(breaker), room))


def _set(ranges: Ranges) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, end)}


@st.composite
def _cases(draw: st.DrawFn, *, anywhere: bool = True) -> tuple[OutgoingBatch, Verdict]:
    """Any batch, any answer, whether or not refused events may be given up.

    The answer names any offset, or only those of events and some beyond the batch.
    """
    count = draw(SIZES)
    offsets = st.integers(0, 3 * count + 20)
    if not anywhere:
        offsets = offsets.filter(lambda at: (at % 3 == 1 and at < 3 * count) or at >= 3 * count + 2)
    batch = _batch(count, draw(st.frozensets(st.sampled_from(range(1, 3 * count, 3)), max_size=3)))
    result = WriteResult(
        rejected=[
            Rejection(offset, "no", expected=draw(st.booleans()))
            for offset in draw(st.lists(offsets, max_size=5))
        ],
        deferred=frozenset(draw(st.frozensets(offsets, max_size=5))),
    )
    answers: list[Answer] = [
        result,
        ACCEPTED,
        TransientError("away"),
        BatchRefusedError("bad"),
        BatchTooLargeError("big"),
    ]
    verdict = _decide(
        batch,
        draw(st.sampled_from(answers)),
        release=draw(st.booleans()),
        breaker=draw(st.sampled_from([1, 3, 10_000])),
        room=draw(st.sampled_from(ROOMS)),
    )
    return batch, verdict


@given(_cases())
def test_every_offset_ends_in_exactly_one_of_done_dead_and_again(
    case: tuple[OutgoingBatch, Verdict],
) -> None:
    batch, verdict = case
    before, done = _set(batch.ranges), _set(verdict.done)
    again = [_set(one.ranges) for one in verdict.again]
    dead = [letter.offset for letter in verdict.dead]

    assert before == done.union(*again)
    assert len(before) == len(done) + sum(map(len, again))
    assert len(dead) == len(set(dead))
    assert set(dead) <= done


@given(_cases())
def test_what_is_sent_again_names_its_lane_and_counts_its_attempts(
    case: tuple[OutgoingBatch, Verdict],
) -> None:
    batch, verdict = case

    assert all(one.lane == batch.lane for one in verdict.again)
    assert all(one.attempts == batch.attempts + 1 for one in verdict.again)


@given(_cases(anywhere=False))
def test_every_event_of_an_answered_batch_is_reported_once(
    case: tuple[OutgoingBatch, Verdict],
) -> None:
    batch, verdict = case
    for event in verdict.events:
        if isinstance(event, BatchSettled):
            expected = sum(
                sum(one.reasons.values())
                for one in verdict.events
                if isinstance(one, EventsRefusedAsExpected)
            )
            counts = (event.delivered, event.rejected, event.deferred)
            reported = sum(sum(one.values()) for one in counts) + expected
            assert reported == batch.count


def test_an_accepted_batch_is_done_and_nothing_else() -> None:
    batch = _batch(5)
    verdict = _decide(batch, ACCEPTED)

    assert (verdict.done, verdict.dead, verdict.again) == (batch.ranges, (), ())
    assert verdict.pace.accepted == 5


def test_refused_events_die_if_they_may_and_are_kept_as_suspects_if_not() -> None:
    result = WriteResult([Rejection(1, "no"), Rejection(4, "no")])
    dead = _decide(_batch(3), result)
    kept = _decide(_batch(3), result, room=1)

    assert dead.dead == (DeadLetter(1, "no"), DeadLetter(4, "no"))
    assert dead.pace.error is None
    assert kept.dead == ()
    assert [(one.ranges, one.suspect) for one in kept.again] == [(points([1, 4]), True)]
    assert isinstance(kept.pace.error, NeedsOperatorError)
    assert _set(kept.done) == _set(_batch(3).ranges) - {1, 4}


def test_a_long_row_for_one_reason_is_kept_and_the_destination_is_named() -> None:
    result = WriteResult([Rejection(1 + 3 * i, "no") for i in range(3)])
    verdict = _decide(_batch(3), result, breaker=3)

    assert verdict.dead == ()
    assert "refuses one event after the other: no" in str(verdict.pace.error)


def test_suspects_do_not_count_for_the_breaker_once_more() -> None:
    result = WriteResult([Rejection(1 + 3 * i, "no") for i in range(3)])
    (suspects,) = _decide(_batch(3), result, breaker=3).again
    events = [make_event(1 + 3 * i) for i in range(3)]
    verdict = _decide(suspects.holding(events, {}), result, breaker=3)

    assert len(verdict.dead) == 3


def test_one_accepted_event_shows_that_the_others_are_at_fault() -> None:
    result = WriteResult([Rejection(1 + 3 * i, "no") for i in range(9)])

    assert len(_decide(_batch(10), result, breaker=3).dead) == 9


def test_an_expected_refusal_is_a_dead_letter_with_a_reason_of_its_own() -> None:
    result = WriteResult([Rejection(1, "too old", expected=True)])
    verdict = _decide(_batch(1), result)

    assert verdict.dead == (DeadLetter(1, "expected refusal: too old"),)
    assert verdict.dead[0].expected
    settled, refused = verdict.events
    assert isinstance(settled, BatchSettled)
    assert (settled.delivered, settled.rejected) == ({}, {})
    assert isinstance(refused, EventsRefusedAsExpected)
    assert refused.reasons == {("access_requests", "expected refusal: too old"): 1}


@given(st.integers(1, 30), st.sampled_from(ROOMS))
def test_expected_refusals_need_no_room_and_never_count_for_the_breaker(
    count: int, room: int | ForwarderError
) -> None:
    rejected = [Rejection(1 + 3 * i, "too old", expected=True) for i in range(count)]
    batch = _batch(count)
    verdict = _decide(batch, WriteResult(rejected), breaker=1, room=room)

    assert len(verdict.dead) == count
    assert (verdict.again, verdict.done) == ((), batch.ranges)
    assert verdict.pace.error is None
    assert not verdict.pace.breaker.tripped


def test_expected_refusals_die_although_others_of_their_batch_are_kept() -> None:
    result = WriteResult([Rejection(1, "too old", expected=True), Rejection(4, "no")])
    verdict = _decide(_batch(2), result, room=0)

    assert [letter.offset for letter in verdict.dead] == [1]
    assert [one.ranges for one in verdict.again] == [points([4])]


def test_an_event_both_refused_and_put_off_is_refused() -> None:
    result = WriteResult([Rejection(1, "no")], deferred=frozenset({1, 4}))
    verdict = _decide(_batch(3), result)

    assert [letter.offset for letter in verdict.dead] == [1]
    assert [_set(one.ranges) for one in verdict.again] == [{4}]
    assert verdict.pace.deferred


def test_rows_that_could_not_be_rendered_are_refused_by_the_engine() -> None:
    verdict = _decide(_batch(3, frozenset({4})), ACCEPTED)

    assert verdict.dead == (DeadLetter(4, "cannot be rendered"),)
    assert verdict.pace.accepted == 2


def test_room_is_asked_for_only_if_something_may_be_given_up() -> None:
    batch, pair, failed = _batch(1), _batch(2), _batch(2, frozenset({1}))
    expected = WriteResult([Rejection(1, "too old", expected=True)])
    cases: list[tuple[OutgoingBatch, Answer, bool]] = [
        (batch, ACCEPTED, False),
        (batch, TransientError("away"), False),
        (batch, expected, False),
        (batch, WriteResult([Rejection(1, "no")]), True),
        (batch, BatchRefusedError("no"), True),
        (pair, BatchRefusedError("no"), False),
        (failed, ACCEPTED, True),
    ]

    asked = [
        may_refuse(one, Outcome(answer, asked=True, overdue=False, seconds=0.0, ended_us=0))
        for one, answer, _ in cases
    ]

    assert asked == [needed for *_, needed in cases]


def test_an_outage_keeps_no_events_in_memory() -> None:
    verdict = _decide(_batch(9), TransientError("away"))

    assert [()] == [one.events for one in verdict.again]
    assert [type(one) for one in verdict.events] == [WriteFailed]


def test_an_event_too_large_for_the_destination_is_dead_with_its_size() -> None:
    batch = _batch(1)
    verdict = _decide(batch, BatchTooLargeError("takes less"))

    assert verdict.dead == (DeadLetter(1, "takes less", batch.batch.size),)


def test_an_event_that_is_refused_alone_is_dead_with_the_reason() -> None:
    verdict = _decide(_batch(1), BatchRefusedError("no such field"), release=True)

    assert verdict.dead == (DeadLetter(1, "no such field"),)
    assert [type(one) for one in verdict.events] == [BatchSettled, EventsDeadLettered]


def test_a_batch_that_is_too_large_says_by_how_much_to_shrink() -> None:
    batch = _batch(4)
    verdict = _decide(batch, BatchTooLargeError("takes less"))

    assert verdict.pace.too_large == batch.batch.size
    assert [type(one) for one in verdict.events] == [BatchSplit]


@given(st.integers(1, 400), st.data())
def test_one_poison_event_is_found_within_two_writes_for_each_halving(
    count: int, data: st.DataObject
) -> None:
    bad = 1 + 3 * data.draw(st.integers(0, count - 1))
    batches, writes = [_batch(count)], 0
    dead: list[int] = []
    while batches:
        batch, writes = batches.pop(), writes + 1
        refused = any(event.offset == bad for event in batch.events)
        verdict = _decide(batch, BatchRefusedError("bad") if refused else ACCEPTED)
        batches += verdict.again
        dead += [letter.offset for letter in verdict.dead]

    assert dead == [bad]
    assert writes - 1 <= 2 * math.log2(count) + 2


@given(st.integers(2, 60))
def test_a_batch_that_was_let_go_of_is_halved_by_its_offsets(count: int) -> None:
    batch = _batch(count)
    offsets = {event.offset for event in batch.events}
    verdict = _decide(batch, BatchRefusedError("bad"), release=True)

    left, right = (_set(one.ranges) & offsets for one in verdict.again)
    assert left
    assert right
    assert left | right == offsets


def test_the_sink_gets_the_very_batch_so_that_releasing_it_frees_the_events() -> None:
    batch = _batch(3)
    batch.for_the_sink().release()

    assert batch.events == ()


def test_of_a_mixed_batch_each_event_counts_for_its_own_stream() -> None:
    events: list[BatchEvent] = [make_event(1), make_event(4, stream="scim_updates")]
    batch = new_batch("live", Cut(events, (0, 5), 9), {})
    verdict = _decide(batch, WriteResult([Rejection(4, "no")]))

    (settled, _) = verdict.events
    assert isinstance(settled, BatchSettled)
    assert (settled.delivered, settled.rejected) == ({"access_requests": 1}, {"scim_updates": 1})
    assert sum(settled.ages.counts) == 1
