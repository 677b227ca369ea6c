"""Nothing is lost and nothing comes twice, whatever the API does and whenever the process dies."""

import pytest
from hypothesis import settings

from tests.ingest.scim_machine import ScimMachine
from tests.ingest.tailing_machine import TailingMachine

TestTailing = pytest.mark.timeout(900)(TailingMachine.TestCase)
TestTailing.settings = settings(max_examples=200, stateful_step_count=15)

TestScim = pytest.mark.timeout(900)(ScimMachine.TestCase)
TestScim.settings = settings(max_examples=100, stateful_step_count=15)


class LongerDays(TailingMachine):
    """The same with more happening in each run, for `make proof-long`."""


class LongerDaysOfProvisioning(ScimMachine):
    """The same for the provisioning log."""


TestTailingForLong = pytest.mark.proof(pytest.mark.slow(LongerDays.TestCase))
TestTailingForLong.settings = settings(stateful_step_count=30)

TestScimForLong = pytest.mark.proof(pytest.mark.slow(LongerDaysOfProvisioning.TestCase))
TestScimForLong.settings = settings(stateful_step_count=30)
