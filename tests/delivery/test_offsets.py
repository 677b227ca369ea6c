"""DoneOffsets offsets against a plain set of integers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.log import Progress
from forwarder.delivery.offsets import DoneOffsets, contains, cut, points, within, without
from forwarder.testing.fake_sinks import make_event

END = 60
SPANS = st.lists(
    st.tuples(st.integers(0, END), st.integers(0, END)).map(lambda ab: (min(ab), max(ab))),
    max_size=12,
)
OFFSETS = st.frozensets(st.integers(0, END))


def _set(ranges: tuple[tuple[int, int], ...]) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, end)}


@given(SPANS, st.integers(0, 10))
def test_progress_says_exactly_what_was_added(spans: list[tuple[int, int]], prefix: int) -> None:
    done = DoneOffsets(Progress(prefix))
    model = set(range(prefix))
    for span in spans:
        done.add([span])
        model |= set(range(*span))

    progress = done.progress()
    assert model == set(range(progress.prefix)) | _set(progress.ranges)


@given(SPANS)
def test_the_prefix_is_as_long_as_it_can_be_and_ranges_never_touch(
    spans: list[tuple[int, int]],
) -> None:
    done = DoneOffsets(Progress(0))
    done.add(spans)

    progress = done.progress()
    edges = [progress.prefix, *(edge for span in progress.ranges for edge in span)]
    assert edges == sorted(set(edges))


@given(SPANS)
def test_progress_survives_a_restart(spans: list[tuple[int, int]]) -> None:
    done = DoneOffsets(Progress(0))
    done.add(spans)

    assert done.progress() == DoneOffsets(done.progress()).progress()


@given(SPANS, st.integers(0, END))
def test_the_next_outstanding_offset_is_the_first_that_is_not_done(
    spans: list[tuple[int, int]], start: int
) -> None:
    done = DoneOffsets(Progress(0))
    done.add(spans)
    model = {offset for span in spans for offset in range(*span)}

    expected = next(offset for offset in range(start, 2 * END) if offset not in model)
    assert expected == done.next_outstanding(start)


@given(SPANS, OFFSETS, st.integers(0, END))
def test_outstanding_events_are_those_that_are_not_done(
    spans: list[tuple[int, int]], offsets: frozenset[int], start: int
) -> None:
    done = DoneOffsets(Progress(0))
    done.add(spans)
    model = {offset for span in spans for offset in range(*span)}

    left = done.outstanding([make_event(offset) for offset in sorted(offsets)], start)

    expected = [offset for offset in sorted(offsets) if offset >= start and offset not in model]
    assert expected == [event.offset for event in left]


@given(OFFSETS)
def test_points_hold_just_their_offsets_in_few_ranges(offsets: frozenset[int]) -> None:
    ranges = points(offsets)

    assert offsets == _set(ranges)
    assert all(ends < starts for (_, ends), (starts, _) in pairwise(ranges))


@given(OFFSETS, OFFSETS)
def test_offsets_can_be_cut_out_of_ranges(held: frozenset[int], out: frozenset[int]) -> None:
    rest = without(points(held), out)

    assert held - out == _set(rest)
    assert all(contains(rest, offset) == (offset in held - out) for offset in range(END + 1))


@given(OFFSETS, st.integers(0, END))
def test_a_cut_loses_and_doubles_nothing(held: frozenset[int], at: int) -> None:
    below, above = cut(points(held), at)

    assert {offset for offset in held if offset < at} == _set(below)
    assert {offset for offset in held if offset >= at} == _set(above)


@given(OFFSETS, OFFSETS)
def test_events_within_ranges_are_found(held: frozenset[int], offsets: frozenset[int]) -> None:
    events = [make_event(offset) for offset in sorted(offsets)]

    assert sorted(held & offsets) == [event.offset for event in within(events, points(held))]
