"""When a sink may be written to, how much, and what makes a failure good."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import ACCEPTED, WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.delivery.pacing import (
    Breaker,
    DeliveryOptions,
    Health,
    Pace,
    Pacing,
    Window,
    worst,
)
from tests.delivery.rig import limits

AWAY = TransientError("away")
LOCKED = NeedsOperatorError("no such token", hint="look at it")


def _health() -> Health:
    return Health(DeliveryOptions(), Random(1))


def _waits(health: Health, error: TransientError, count: int) -> list[float]:
    waits = []
    for _ in range(count):
        health.failed(error, 1000.0)
        waits.append(health.not_before - 1000.0)
        health.opened()
    return waits


def test_waits_stay_below_a_ceiling_that_doubles_to_thirty_seconds() -> None:
    for number, wait in enumerate(_waits(_health(), AWAY, 20)):
        assert 0 <= wait <= min(30.0, 2.0**number)


def test_opening_does_not_start_the_waiting_times_anew() -> None:
    health = _health()
    _waits(health, AWAY, 9)

    assert health.attempts == 9


def test_an_accepted_event_starts_the_waiting_times_anew() -> None:
    health = _health()
    _waits(health, AWAY, 9)
    health.accepted()

    assert health.attempts == 0


def test_a_fault_of_the_operator_is_tried_again_slowly() -> None:
    waits = _waits(_health(), LOCKED, 10)

    assert min(waits) >= 7.5
    assert max(waits) <= 60.0


def test_what_the_destination_asked_for_is_waited_for() -> None:
    (wait,) = _waits(_health(), TransientError("busy", retry_after=120.0), 1)

    assert 120.0 <= wait <= 121.0


def test_nobody_can_ask_for_more_than_the_longest_wait() -> None:
    (wait,) = _waits(_health(), TransientError("busy", retry_after=1e9), 1)

    assert wait <= 3601.0


def test_what_failed_in_writing_is_not_fixed_by_opening() -> None:
    health = _health()
    health.failed(AWAY, 0.0, writing=True)
    health.opened()

    assert health.usable
    assert health.trouble is AWAY
    health.works()
    assert health.trouble is None


def test_what_failed_in_opening_is_fixed_by_opening() -> None:
    health = _health()
    health.failed(AWAY, 0.0, writing=False)
    health.opened()

    assert health.trouble is None


def test_writes_that_fail_together_are_one_failure() -> None:
    health = _health()
    health.failed(AWAY, 0.0)
    for _ in range(10):
        health.straggled(AWAY, 0.1)

    assert health.attempts == 1
    assert health.not_before <= 1.0


def test_one_of_them_can_make_it_the_operators_fault_or_lengthen_the_wait() -> None:
    health = _health()
    health.failed(AWAY, 0.0)
    health.straggled(TransientError("busy", retry_after=40.0), 0.0)
    health.straggled(LOCKED, 0.0)

    assert health.needs_operator
    assert health.not_before >= 40.0


def test_the_worst_trouble_is_shown() -> None:
    first, second, fine = _health(), _health(), _health()
    first.failed(AWAY, 0.0)
    second.failed(LOCKED, 0.0)

    assert worst([fine, first, second]) is second
    assert worst([fine]) is None


def test_fifty_refusals_in_a_row_for_one_reason_trip_the_breaker() -> None:
    almost = Breaker(50).refused(["no such field"] * 49)

    assert not almost.tripped
    assert almost.refused(["no such field"]).tripped


def test_an_accepted_event_ends_the_row_of_refusals() -> None:
    almost = Breaker(50).refused(["no such field"] * 49)

    assert not almost.accepted().refused(["no such field"] * 49).tripped


def test_another_reason_starts_another_row() -> None:
    almost = Breaker(50).refused(["no such field"] * 49)

    assert not almost.refused(["too old", *["no such field"] * 49]).tripped


def test_a_destination_that_gives_each_event_a_reason_of_its_own_trips_the_breaker_too() -> None:
    almost = Breaker(50).refused(f"event {number} is too old" for number in range(499))

    assert not almost.tripped
    assert almost.refused(["event 499 is too old"]).tripped
    assert not almost.accepted().refused(["event 499 is too old"]).tripped


@given(st.lists(st.sampled_from(["no", "too old"]), max_size=5))
def test_once_tripped_only_an_accepted_event_closes_the_breaker(reasons: list[str]) -> None:
    tripped = Breaker(2).refused(["no", "no"])

    assert tripped.refused(reasons).tripped
    assert not tripped.accepted().tripped


def _round(window: Window) -> int:
    """Let a full window of writes succeed."""
    for _ in range(window.size):
        window.succeeded(full=True)
    return window.size


def test_the_window_starts_with_one_write_and_doubles_with_each_round() -> None:
    window = Window(64)

    assert [1, 2, 4, 8, 16, 32, 64, 64] == [window.size, *(_round(window) for _ in range(7))]


def test_after_the_first_throttle_the_window_adds_one_with_each_round() -> None:
    window = Window(64)
    while window.size < 32:
        _round(window)
    window.throttled()

    assert window.size == 16
    assert 4 <= [_round(window) for _ in range(5)][-1] - 16 <= 5


def test_writes_that_were_under_way_together_throttle_once() -> None:
    window = Window(64)
    while window.size < 32:
        _round(window)

    assert [True] + 31 * [False] == [window.throttled() for _ in range(32)]
    assert window.size == 16
    assert window.throttled()


def test_after_an_outage_the_window_doubles_again() -> None:
    window = Window(64)
    while window.size < 32:
        _round(window)
    window.failed()

    assert [16, 32] == [window.size, _round(window)]


def test_a_window_that_is_not_used_up_does_not_grow() -> None:
    window = Window(64)
    window.succeeded(full=False)

    assert window.size == 1


@given(st.lists(st.sampled_from(["succeeded", "throttled", "failed"])), st.integers(1, 9))
def test_the_window_never_leaves_its_bounds(steps: list[str], most: int) -> None:
    window = Window(most)
    for step in steps:
        if step == "succeeded":
            window.succeeded(full=True)
        elif step == "throttled":
            window.throttled()
        else:
            window.failed()

        assert 1 <= window.size <= most


def _pacing(*, at_once: int = 4, size: int = 1000) -> Pacing:
    pacing = Pacing(limits(size=size, at_once=at_once), DeliveryOptions(), Random(1))
    pacing.health.opened()
    return pacing


def _accepted(pacing: Pacing, result: WriteResult = ACCEPTED) -> Pace:
    return Pace(pacing.breaker, asked=True, accepted=1, result=result)


def _write(pacing: Pacing, pace: Pace, *, suspicious: bool = False) -> bool:
    """Play one write from its start to its end."""
    number = pacing.start()
    throttled = pacing.learn(pace, number, 0.0, suspicious=suspicious)
    pacing.end()
    return throttled


def test_nothing_is_written_before_the_sink_is_open() -> None:
    assert not Pacing(limits(), DeliveryOptions(), Random(1)).may_write(0.0)


def test_a_write_that_failed_closes_the_sink_until_it_is_opened_again() -> None:
    pacing = _pacing()
    _write(pacing, Pace(pacing.breaker, asked=True, error=AWAY))
    closed = pacing.may_write(0.0)
    pacing.health.opened()

    assert not closed
    assert pacing.may_write(0.0)
    assert pacing.room == 1, "it is probed with one write"


def test_only_writes_that_saw_a_full_window_make_it_grow() -> None:
    pacing = _pacing()
    _write(pacing, _accepted(pacing))
    first, second = pacing.start(), pacing.start()
    pacing.learn(_accepted(pacing), first, 0.0, suspicious=False)
    pacing.end()
    grown = pacing.window
    third = pacing.start()
    pacing.learn(_accepted(pacing), third, 0.0, suspicious=False)

    assert (grown, pacing.window) == (3, 3)
    pacing.learn(_accepted(pacing), second, 0.0, suspicious=False)
    assert pacing.window == 4


def test_what_is_too_large_halves_the_batches_and_each_accepted_one_lets_them_grow() -> None:
    pacing = _pacing(size=1000)
    _write(pacing, Pace(pacing.breaker, asked=True, too_large=900))
    halved = pacing.max_bytes
    for _ in range(2000):
        _write(pacing, _accepted(pacing))

    assert halved == 450
    assert pacing.max_bytes == 1000


def test_a_result_that_asks_for_it_rests_the_sink_and_halves_the_window_once() -> None:
    pacing = _pacing()
    throttled = _write(pacing, _accepted(pacing, WriteResult(retry_after=100.0)))

    assert throttled
    assert (pacing.may_write(99.0), pacing.may_write(100.0)) == (False, True)


def test_nobody_can_ask_a_result_to_rest_longer_than_the_longest_wait() -> None:
    pacing = _pacing()
    _write(pacing, _accepted(pacing, WriteResult(retry_after=1e9)))

    assert pacing.may_write(3600.0)


def test_while_refused_events_are_kept_the_trouble_lasts_although_the_sink_answers() -> None:
    pacing = _pacing()
    _write(pacing, Pace(pacing.breaker, asked=True, error=LOCKED, kept=True))
    pacing.health.opened()
    _write(pacing, _accepted(pacing), suspicious=True)
    lasting = pacing.health.trouble
    _write(pacing, _accepted(pacing))

    assert lasting is LOCKED
    assert pacing.health.trouble is None
    assert pacing.trusting


def test_a_batch_that_nobody_was_asked_about_says_nothing_of_the_destination() -> None:
    pacing = _pacing()
    pacing.health.failed(AWAY, 0.0)
    pacing.health.opened()
    _write(pacing, Pace(pacing.breaker, asked=False, result=ACCEPTED))

    assert pacing.health.trouble is AWAY
    assert pacing.window == 1
