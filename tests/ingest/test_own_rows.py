"""What the forwarder says of its own about a stream: how far it is complete, what came late."""

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import StreamKey, Window
from forwarder.core.log import ReaderState
from forwarder.ingest.poller import COVERAGE_EVERY_US, coverage, late_rows

KEY = StreamKey("a" * 32, "access_requests")
START_US = 1_790_000_000_000_000


@given(st.lists(st.integers(0, 4 * COVERAGE_EVERY_US), max_size=30))
def test_coverage_is_told_once_for_every_five_minutes_that_end(steps: list[int]) -> None:
    covered_us, told = START_US, 0
    for step in steps:
        window = Window(covered_us, covered_us + step)
        told += len(coverage(KEY, "acme", ReaderState(covered_us, window), 7))
        covered_us += step

    ended = covered_us // COVERAGE_EVERY_US - START_US // COVERAGE_EVERY_US
    assert min(ended, 1) <= told <= ended


def test_coverage_says_until_when_and_how_many() -> None:
    until_us = START_US + COVERAGE_EVERY_US
    state = ReaderState(START_US, Window(START_US, until_us))

    (row,) = coverage(KEY, "acme", state, 7)

    assert (row["event"], row["stream"], row["rows"]) == ("coverage", "access_requests", 7)
    assert row["to"] == "2026-09-21T14:18:20.000000Z"


def test_late_rows_are_told_with_their_slice_and_none_are_not_told() -> None:
    slice_ = Window(START_US, START_US + 60_000_000)

    assert late_rows(KEY, "acme", slice_, 0) == []
    (row,) = late_rows(KEY, "acme", slice_, 2)
    assert (row["event"], row["rows"], row["from"][:19]) == (
        "late_rows",
        2,
        "2026-09-21T14:13:20",
    )
