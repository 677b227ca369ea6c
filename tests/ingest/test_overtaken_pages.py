"""A page that waits for the disk while another reader meets rows with a new key."""

import pytest

from tests.ingest.scripted_cloudflare import SECOND_US
from tests.ingest.tailing_machine import TailingMachine


class TwoReaders(TailingMachine):
    """A poller that was away for four minutes; its live and its trailing reader have a row due."""

    def come_back(self, *, requests: int) -> None:
        """Fill the disk at a request (the first one is for the time); the next brings a key."""
        self.reconcile = (300.0,)
        self._row(self.clock.true_us - 5 * SECOND_US)
        self._start()
        self._run(self._pass(700))
        self._stop()
        self._row(self.clock.true_us - 80 * SECOND_US)
        self._run(self.clock.advance(240))
        self._between(requests, self._fill_the_disk)
        self.a_new_key_appears(key="zone", after=requests + 1)
        self._start()

    def _fill_the_disk(self) -> None:
        self._open.writer.failures = 1


@pytest.mark.parametrize("requests", range(1, 6))
def test_a_row_comes_once_although_two_readers_saw_it_with_different_keys(requests: int) -> None:
    """One reader waits with the row as it was, the other stores it with its new key."""
    machine = TwoReaders()
    machine.come_back(requests=requests)

    machine.teardown()
