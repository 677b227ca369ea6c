"""What is counted about a batch."""

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from forwarder.delivery.parcels import AGE_BOUNDS, ages, manifest_of
from forwarder.testing.fake_sinks import make_event

NOW_US = 10**12


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


def test_a_manifest_knows_what_was_in_a_batch() -> None:
    events = [make_event(9), make_event(4, stream="scim_updates"), make_event(11)]
    manifest = manifest_of(events)

    assert manifest.count == 3
    assert manifest.size == sum(len(event.body) for event in events)
    assert manifest.streams == {"access_requests": 2, "scim_updates": 1}
    assert list(manifest.times_us) == sorted(event.time_us for event in events)
