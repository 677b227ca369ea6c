"""Whatever pollers, sinks, operators and crashes do: no row is lost in silence."""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from forwarder.testing.journal_machine import machine_for
from tests.journal.sqlite_opener import SqliteOpener

TestMachine = machine_for(SqliteOpener).TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_two_thousand_long_lives() -> None:
    long = settings(max_examples=2000, stateful_step_count=60, deadline=None)

    run_state_machine_as_test(machine_for(SqliteOpener), settings=long)
