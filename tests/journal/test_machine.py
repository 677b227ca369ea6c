"""Whatever pollers, sinks, operators and crashes do: no row is lost in silence."""

from hypothesis import settings

from forwarder.testing.journal_machine import machine_for
from tests.journal.sqlite_opener import SqliteOpener

TestMachine = machine_for(SqliteOpener).TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
