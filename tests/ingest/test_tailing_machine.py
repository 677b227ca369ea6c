"""Nothing is lost and nothing comes twice, whatever the API does and whenever the process dies."""

import pytest
from hypothesis import settings

from tests.ingest.tailing_machine import TailingMachine

TestTailing = pytest.mark.timeout(900)(TailingMachine.TestCase)
TestTailing.settings = settings(stateful_step_count=15)


class LongerDays(TailingMachine):
    """The same with more happening in each run, for `make proof-long`."""


TestTailingForLong = pytest.mark.proof(pytest.mark.slow(LongerDays.TestCase))
TestTailingForLong.settings = settings(stateful_step_count=30)
