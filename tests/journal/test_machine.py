"""Whatever pollers, sinks, operators and crashes do: no row is lost in silence."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from forwarder.core.contracts import LIVE
from forwarder.core.log import ReaderState
from forwarder.testing.journal_crash import NOON_US
from forwarder.testing.journal_machine import JournalMachine, machine_for
from tests.journal.sqlite_opener import SqliteOpener

TestMachine = machine_for(SqliteOpener).TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=24, deadline=None)


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_two_thousand_long_lives() -> None:
    long = settings(max_examples=2000, stateful_step_count=60, deadline=None)

    run_state_machine_as_test(machine_for(SqliteOpener), settings=long)


def test_the_last_writes_of_a_stopped_backfill_arrive_before_it_is_settled() -> None:
    one = machine_for(SqliteOpener)()
    try:
        one.begin(blocking=True, two=False)
        one.open_backfill([], [0, 1], again=False)
        (lane,) = one.growing()
        one.bring([2], LIVE, ReaderState(NOON_US), LIVE)
        one.bring([3], lane, ReaderState(NOON_US), lane)
        one.stop_lane(0, at_once=False)
        one.replay(0, 3, quiet=True)

        one.the_journal_is_what_the_model_says()
    finally:
        one.teardown()


OPERATIONS: Mapping[str, Callable[[JournalMachine], None]] = {
    "append": lambda one: one.bring([9, 10, 11], LIVE, ReaderState(NOON_US + 9), LIVE),
    "join": lambda one: one.join("c", "beginning", blocking=True),
    "come_back": lambda one: one.join("b", "now", blocking=True),
    "forget_sink": lambda one: one.forget_sink(0),
    "acknowledge": lambda one: one.acknowledge(0, None, [0, 1], expected=True),
    "open_backfill": lambda one: one.open_backfill([], [], again=False),
    "close_lane": lambda one: one.close_lane(0),
    "stop_lane": lambda one: one.stop_lane(0, at_once=False),
    "stop_and_cancel": lambda one: one.stop_lane(0, at_once=True),
    "cancel_letters": lambda one: one.stop_lane(2, at_once=True),
    "replay": lambda one: one.replay(0, 3),
    "replay_letters": lambda one: one.settle_letters(0, some=False, drop=False),
    "drop_letters": lambda one: one.settle_letters(0, some=False, drop=True),
    "move_cursor": lambda one: one.move_cursor(2),
    "maintain": lambda one: one.maintain(),
    "tell": lambda one: one.tell(),
}


def _in_the_middle_of_a_life(one: JournalMachine) -> None:
    """Two sinks, one of them absent; live rows, a backfill, letters at rest and on their way."""
    one.begin(blocking=True, two=False)
    one.join("b", "now", blocking=True)
    one.bring([0, 1, 2], LIVE, ReaderState(NOON_US), LIVE)
    one.acknowledge(0, [0], [1], expected=False)
    one.open_backfill([], [3, 4, 8], again=False)
    one.settle_letters(0, some=True, drop=False)
    one.acknowledge(0, [0], [0], expected=False)
    one.leave(1, for_long=False)
    one.time_passes(2)


@pytest.mark.proof
@pytest.mark.timeout(600)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_process_may_die_at_any_statement_of_any_operation(name: str, *, late: bool) -> None:
    statement, fired = 0, True
    while fired:
        statement += 1
        one = machine_for(SqliteOpener)()
        try:
            _in_the_middle_of_a_life(one)
            one.die_in_the_next_step(statement, late=late)
            OPERATIONS[name](one)
            fired = one.crash.fired
            one.the_journal_is_what_the_model_says()
        finally:
            one.teardown()

    assert statement > 3
