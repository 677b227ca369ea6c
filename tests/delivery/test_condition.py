"""When something that failed is tried again, and what counts as mended."""

from random import Random

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.timing import Backoff
from forwarder.delivery.condition import Condition, worst

AWAY = TransientError("away")
LOCKED = NeedsOperatorError("no such token", hint="look at it")


def _condition() -> Condition:
    return Condition(Backoff(), Random(1), longest_wait=3600.0)


def _waits(condition: Condition, error: TransientError, count: int) -> list[float]:
    waits = []
    for _ in range(count):
        condition.failed(error, 1000.0)
        waits.append(condition.not_before - 1000.0)
        condition.opened()
    return waits


def test_waits_stay_below_a_ceiling_that_doubles_to_thirty_seconds() -> None:
    for number, wait in enumerate(_waits(_condition(), AWAY, 20)):
        assert 0 <= wait <= min(30.0, 2.0**number)


def test_opening_does_not_start_the_waiting_times_anew() -> None:
    condition = _condition()
    _waits(condition, AWAY, 9)

    assert condition.attempts == 9


def test_an_accepted_event_starts_the_waiting_times_anew() -> None:
    condition = _condition()
    _waits(condition, AWAY, 9)
    condition.accepted()

    assert condition.attempts == 0


def test_a_fault_of_the_operator_is_tried_again_slowly() -> None:
    waits = _waits(_condition(), LOCKED, 10)

    assert min(waits) >= 7.5
    assert max(waits) <= 60.0


def test_what_the_destination_asked_for_is_waited_for() -> None:
    (wait,) = _waits(_condition(), TransientError("busy", retry_after=120.0), 1)

    assert 120.0 <= wait <= 121.0


def test_nobody_can_ask_for_more_than_the_longest_wait() -> None:
    (wait,) = _waits(_condition(), TransientError("busy", retry_after=1e9), 1)

    assert wait <= 3601.0


def test_what_failed_in_writing_is_not_mended_by_opening() -> None:
    condition = _condition()
    condition.failed(AWAY, 0.0, writing=True)
    condition.opened()

    assert condition.usable
    assert condition.trouble is AWAY
    condition.works()
    assert condition.trouble is None


def test_what_failed_in_opening_is_mended_by_opening() -> None:
    condition = _condition()
    condition.failed(AWAY, 0.0, writing=False)
    condition.opened()

    assert condition.trouble is None


def test_writes_that_fail_together_are_one_failure() -> None:
    condition = _condition()
    condition.failed(AWAY, 0.0)
    for _ in range(10):
        condition.straggled(AWAY, 0.1)

    assert condition.attempts == 1
    assert condition.not_before <= 1.0


def test_one_of_them_can_make_it_the_operators_fault_or_lengthen_the_wait() -> None:
    condition = _condition()
    condition.failed(AWAY, 0.0)
    condition.straggled(TransientError("busy", retry_after=40.0), 0.0)
    condition.straggled(LOCKED, 0.0)

    assert condition.needs_operator
    assert condition.not_before >= 40.0


def test_the_worst_trouble_is_shown() -> None:
    first, second, fine = _condition(), _condition(), _condition()
    first.failed(AWAY, 0.0)
    second.failed(LOCKED, 0.0)

    assert worst([fine, first, second]) is LOCKED
    assert worst([fine]) is None
