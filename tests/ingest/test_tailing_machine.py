"""Nothing is lost and nothing comes twice, whatever the API does and whenever the process dies."""

from hypothesis import settings

from tests.ingest.tailing_machine import TailingMachine

TestTailing = TailingMachine.TestCase
TestTailing.settings = settings(stateful_step_count=25)
