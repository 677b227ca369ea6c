"""The time of a server is believed when its answers agree with each other."""

from forwarder.core.timing import ServerClock

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
NOW_US = 500_000 * HOUR_US


def test_one_answer_with_another_date_moves_no_clock() -> None:
    clock = ServerClock()
    clock.tell(NOW_US, 0.0)
    clock.tell(NOW_US + 24 * HOUR_US, 1.0)

    assert NOW_US + 2 * SECOND_US == clock.now_us(2.0)


def test_a_minute_of_answers_that_agree_does() -> None:
    """A suspended machine wakes up: its monotonic clock stood still."""
    clock, later_us = ServerClock(), NOW_US + 24 * HOUR_US
    clock.tell(NOW_US, 0.0)
    for second in range(1, 61):
        clock.tell(later_us + second * SECOND_US, float(second))
    before = clock.now_us(60.0)
    clock.tell(later_us + 61 * SECOND_US, 61.0)

    assert NOW_US + 60 * SECOND_US == before
    assert later_us + 61 * SECOND_US == clock.now_us(61.0)


def test_a_first_date_far_from_our_own_clock_is_believed_after_a_minute_of_it() -> None:
    """Either end may be wrong; 2038 in the first answer would be a gap of years."""
    clock, later_us = ServerClock(), NOW_US + 12 * 365 * 24 * HOUR_US
    for second in range(60):
        clock.tell(later_us + second * SECOND_US, float(second), NOW_US + second * SECOND_US)
    known_early = clock.known
    clock.tell(later_us + 60 * SECOND_US, 60.0, NOW_US + 60 * SECOND_US)

    assert not known_early
    assert clock.now_us(60.0) == later_us + 60 * SECOND_US


def test_a_first_date_that_is_wrong_gives_way_to_one_that_our_clock_agrees_with() -> None:
    clock = ServerClock()
    clock.tell(NOW_US + 12 * 365 * 24 * HOUR_US, 0.0, NOW_US)
    clock.tell(NOW_US + 5 * SECOND_US, 5.0, NOW_US + 5 * SECOND_US)

    assert clock.now_us(5.0) == NOW_US + 5 * SECOND_US


def test_answers_with_another_date_for_some_seconds_move_no_clock() -> None:
    """A front end of the API has a wrong clock: a jump would be a gap of years."""
    clock = ServerClock()
    for second in range(100):
        wrong_us = 12 * 365 * 24 * HOUR_US if 10 <= second < 40 else 0
        clock.tell(NOW_US + wrong_us + second * SECOND_US, float(second))
        assert NOW_US + second * SECOND_US == clock.now_us(float(second))
