"""Which window comes next, and what is lost when a position cannot be true."""

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import Window
from forwarder.core.log import ReaderState
from forwarder.ingest.windows import (
    CURSOR_IN_FUTURE,
    RETENTION,
    LivePlan,
    PollOptions,
    plan_live,
    safe_place,
    settled_back,
    slice_window,
    trailing,
)

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
NOW_US = 500_000 * HOUR_US
OPTIONS = PollOptions(reconcile=(600.0, 72_000.0))


def plan(state: ReaderState, past_us: int | None = None) -> LivePlan:
    return plan_live(state, NOW_US, OPTIONS, safe_us=NOW_US - 7 * HOUR_US, past_us=past_us)


def test_a_round_reads_from_the_overlap_to_the_servers_now() -> None:
    planned = plan(ReaderState(NOW_US - 10 * SECOND_US))

    assert planned.state is not None
    assert Window(NOW_US - 70 * SECOND_US, NOW_US) == planned.state.window
    assert () == planned.lost


def test_an_interrupted_round_goes_on_where_it_was() -> None:
    state = ReaderState(NOW_US - HOUR_US, Window(1, 2), {"at": 1}, 3, NOW_US - HOUR_US // 2)

    assert state == plan(state).state


def test_nothing_is_read_twice_within_a_second() -> None:
    assert plan(ReaderState(NOW_US)).state is None


def test_a_position_ahead_of_the_server_goes_back_to_what_is_covered_and_is_recorded() -> None:
    planned = plan(ReaderState(NOW_US + HOUR_US))

    assert planned.state is not None
    assert NOW_US - 7 * HOUR_US == planned.state.covered_until_us
    assert [CURSOR_IN_FUTURE] == [lost.reason for lost in planned.lost]


def test_what_expired_unread_is_recorded() -> None:
    (lost,) = plan(ReaderState(NOW_US - 30 * HOUR_US)).lost

    assert (RETENTION, 6 * HOUR_US) == (lost.reason, lost.until_us - lost.since_us)
    assert "it is older than the plan's retention (1d) and had not been read" == lost.detail


def test_a_first_start_has_lost_only_what_expired_since_it_began() -> None:
    state = ReaderState(NOW_US - 50 * HOUR_US)

    assert () == plan(state, NOW_US - HOUR_US).lost
    (lost,) = plan(state, NOW_US - 26 * HOUR_US).lost
    assert 2 * HOUR_US == lost.until_us - lost.since_us


def test_a_trailing_reader_from_a_time_to_come_is_no_witness_and_starts_anew() -> None:
    readers = {
        trailing(600.0): ReaderState(NOW_US + HOUR_US),
        trailing(72_000.0): ReaderState(NOW_US - 21 * HOUR_US),
    }

    assert NOW_US - 21 * HOUR_US == safe_place(readers, NOW_US, OPTIONS)
    back = settled_back(readers[trailing(600.0)], NOW_US, 600.0)
    assert ReaderState(NOW_US - 600 * SECOND_US) == back


@given(st.integers(60, 72_000), st.lists(st.integers(1, 20 * 3600), min_size=1, max_size=30))
def test_slices_follow_each_other_without_a_hole(age: int, waits: list[int]) -> None:
    covered_us, now_us = NOW_US, NOW_US
    for wait in waits:
        now_us += wait * SECOND_US
        while (window := slice_window(covered_us, now_us, age)) is not None:
            assert covered_us == window.since_us < window.until_us <= now_us - age * SECOND_US
            covered_us = window.until_us
