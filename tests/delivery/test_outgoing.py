"""Batches cut out of what was read ahead, and what is known of one."""

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import BatchEvent
from forwarder.delivery.outgoing import AGE_BOUNDS, Buffer, ages, summarise
from forwarder.testing.fake_sinks import make_event
from tests.delivery.rig import limits

NOW_US = 10**12
PAGES = st.lists(st.lists(st.integers(0, 60), max_size=8), max_size=8)


def _events(sizes: list[int], first: int) -> list[BatchEvent]:
    return [make_event(first + 2 * i, body=b"x" * size) for i, size in enumerate(sizes)]


def _emptied(
    buffer: Buffer, most_bytes: int = 100
) -> list[tuple[list[BatchEvent], tuple[int, int]]]:
    batches: list[tuple[list[BatchEvent], tuple[int, int]]] = []
    while buffer:
        cut = buffer.take(most_bytes)
        batches.append((list(cut.events), cut.span))
        assert cut.size == sum(len(event.body) for event in cut.events)
    return batches


def _filled(pages: list[list[int]], buffer: Buffer) -> list[BatchEvent]:
    """Fill with events at every second offset, as if a filter had dropped the others."""
    events, end = [], 0
    for sizes in pages:
        page = _events(sizes, end)
        end += 2 * len(sizes)
        events += page
        buffer.append(page, end, 0.0)
    return events


@given(PAGES)
def test_batches_hold_every_event_once_and_in_order(pages: list[list[int]]) -> None:
    buffer = Buffer(0, limits(5))
    events = _filled(pages, buffer)

    assert events == [event for batch, _ in _emptied(buffer) for event in batch]


@given(PAGES)
def test_the_ranges_of_batches_tile_the_offsets(pages: list[list[int]]) -> None:
    buffer = Buffer(0, limits(5))
    _filled(pages, buffer)
    end = 2 * sum(map(len, pages))

    spans = [span for _, span in _emptied(buffer)]
    edges = [0, *(edge for span in spans for edge in span), end]

    assert all(here == there for here, there in zip(edges[::2], edges[1::2], strict=True)) or (
        not spans
    )


@given(PAGES)
def test_a_batch_keeps_to_its_bounds_unless_one_event_alone_is_beyond_them(
    pages: list[list[int]],
) -> None:
    buffer = Buffer(0, limits(5))
    _filled(pages, buffer)

    for batch, _ in _emptied(buffer, most_bytes=50):
        assert 1 <= len(batch) <= 5
        assert len(batch) == 1 or sum(len(event.body) for event in batch) <= 50


@given(PAGES)
def test_a_batch_is_as_large_as_its_bounds_allow(pages: list[list[int]]) -> None:
    buffer = Buffer(0, limits(5))
    _filled(pages, buffer)
    batches = [batch for batch, _ in _emptied(buffer, most_bytes=50)]

    for batch, following in pairwise(batches):
        size = sum(len(event.body) for event in [*batch, following[0]])
        assert len(batch) == 5 or size > 50


def test_what_is_left_of_a_page_waits_as_long_as_a_new_page() -> None:
    buffer = Buffer(0, limits(3, wait=1.0))
    buffer.append(_events([1, 1], 0), 4, 10.0)
    buffer.append(_events([1, 1], 4), 8, 20.0)

    assert buffer.ripe_at == 11.0
    buffer.take(100)
    assert buffer.ripe_at == 21.0


def test_a_stretch_without_events_is_passed_over() -> None:
    buffer = Buffer(5, limits())
    buffer.append([], 9, 0.0)

    assert buffer.skip() == (5, 9)
    assert buffer.skip() == (9, 9)


@given(st.lists(st.integers(-10, 200_000)))
def test_ages_are_counted_like_a_histogram(seconds: list[int]) -> None:
    times = sorted(NOW_US - 1_000_000 * age for age in seconds)
    expected = [0] * (len(AGE_BOUNDS) + 1)
    for age in seconds:
        expected[bisect_left(AGE_BOUNDS, age)] += 1

    counted = ages(times, NOW_US)

    assert counted.counts == tuple(expected)
    assert counted.total == sum(age for age in seconds if age > 0)
    assert counted.oldest == max([0, *seconds])


def test_a_summary_knows_what_was_in_a_batch() -> None:
    events = [make_event(9), make_event(4, stream="scim_updates"), make_event(11)]
    summary = summarise(events)

    assert summary.streams == {"access_requests": 2, "scim_updates": 1}
    assert list(summary.times_us) == sorted(event.time_us for event in events)
