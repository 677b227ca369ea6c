"""What becomes of a batch after a write."""

import math
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import ACCEPTED, Batch, Rejection, WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    TransientError,
)
from forwarder.core.log import DeadLetter
from forwarder.delivery.acks import Ranges
from forwarder.delivery.parcels import Parcel, batch_of, manifest_of
from forwarder.delivery.settling import Settlement, settle
from forwarder.testing.fake_sinks import make_event

Outcome: TypeAlias = WriteResult | ForwarderError
SIZES = st.integers(1, 30)


def _parcel(count: int) -> Parcel:
    """Events at every third offset from 1, in a range that begins and ends without one."""
    events = [make_event(1 + 3 * i) for i in range(count)]
    return Parcel(((0, 3 * count + 2),), count, events[0].seen_us, events)


def _settle(parcel: Parcel, outcome: Outcome, *, release: bool) -> Settlement:
    assert isinstance(
        outcome, WriteResult | TransientError | BatchRefusedError | BatchTooLargeError
    )
    manifest = manifest_of(parcel.events)
    batch = batch_of(parcel, manifest.size)
    if release:
        batch.release()
    return settle(parcel, batch, manifest, outcome)


def _set(ranges: Ranges) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, end)}


@st.composite
def _outcomes(draw: st.DrawFn) -> tuple[int, Outcome]:
    count = draw(SIZES)
    offsets = st.integers(0, 3 * count + 20)
    result = WriteResult(
        rejected=[Rejection(offset, "no") for offset in draw(st.lists(offsets, max_size=5))],
        deferred=frozenset(draw(st.frozensets(offsets, max_size=5))),
    )
    errors: list[Outcome] = [
        TransientError("away"),
        BatchRefusedError("bad"),
        BatchTooLargeError("big"),
    ]
    outcomes: list[Outcome] = [result, ACCEPTED, *errors]
    return count, draw(st.sampled_from(outcomes))


@given(case=_outcomes(), release=st.booleans())
def test_every_offset_is_done_or_sent_again_and_never_both(
    *, case: tuple[int, Outcome], release: bool
) -> None:
    count, outcome = case
    parcel = _parcel(count)
    before = _set(parcel.ranges)

    verdict = _settle(parcel, outcome, release=release)
    again = [_set(one.ranges) for one in verdict.again]

    assert before == _set(verdict.done).union(*again)
    assert len(before) == len(_set(verdict.done)) + sum(map(len, again))


@given(case=_outcomes(), release=st.booleans())
def test_only_an_offset_of_the_batch_becomes_a_dead_letter_and_it_is_done(
    *, case: tuple[int, Outcome], release: bool
) -> None:
    count, outcome = case
    parcel = _parcel(count)
    verdict = _settle(parcel, outcome, release=release)

    dead = [letter.offset for letter in verdict.rejected]
    assert len(dead) == len(set(dead))
    assert set(dead) <= _set(verdict.done)


@given(case=_outcomes(), release=st.booleans())
def test_a_spared_event_is_sent_again_and_not_done(
    *, case: tuple[int, Outcome], release: bool
) -> None:
    count, outcome = case
    parcel = _parcel(count)
    verdict = _settle(parcel, outcome, release=release)
    dead = {letter.offset for letter in verdict.rejected}

    spared = verdict.sparing(parcel)

    assert not spared.rejected
    assert dead.isdisjoint(_set(spared.done))
    assert dead <= set().union(*(_set(one.ranges) for one in spared.again))


def test_an_outage_keeps_no_events_in_memory() -> None:
    verdict = _settle(_parcel(9), TransientError("away"), release=False)

    assert [()] == [one.events for one in verdict.again]


def test_an_event_too_large_for_the_destination_is_dead_with_its_size() -> None:
    parcel = _parcel(1)
    size = len(parcel.events[0].body)
    verdict = _settle(parcel, BatchTooLargeError("takes less"), release=False)

    assert verdict.rejected == (DeadLetter(1, "takes less", size),)


def test_an_event_that_is_refused_alone_is_dead_with_the_reason() -> None:
    verdict = _settle(_parcel(1), BatchRefusedError("no such field"), release=True)

    assert verdict.rejected == (DeadLetter(1, "no such field"),)


@given(st.integers(1, 400), st.data())
def test_one_poison_event_is_found_within_two_writes_for_each_halving(
    count: int, data: st.DataObject
) -> None:
    bad = 1 + 3 * data.draw(st.integers(0, count - 1))
    parcels, writes = [_parcel(count)], 0
    dead: list[int] = []
    while parcels:
        parcel, writes = parcels.pop(), writes + 1
        refused = any(event.offset == bad for event in parcel.events)
        outcome = BatchRefusedError("bad") if refused else ACCEPTED
        verdict = _settle(parcel, outcome, release=False)
        parcels += verdict.again
        dead += [letter.offset for letter in verdict.rejected]

    assert dead == [bad]
    assert writes - 1 <= 2 * math.log2(count) + 2


@given(st.integers(2, 60))
def test_a_batch_that_was_let_go_of_is_halved_by_its_offsets(count: int) -> None:
    parcel = _parcel(count)
    offsets = {event.offset for event in parcel.events}
    verdict = _settle(parcel, BatchRefusedError("bad"), release=True)

    left, right = (_set(one.ranges) & offsets for one in verdict.again)
    assert left
    assert right
    assert left | right == offsets


def test_handing_the_events_to_a_batch_keeps_no_other_hold_of_them() -> None:
    parcel = _parcel(3)
    batch = batch_of(parcel, 9)
    batch.release()

    assert (Batch((), 9), ()) == (batch, parcel.events)
