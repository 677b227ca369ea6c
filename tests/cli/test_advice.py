"""What ``verify`` advises: a backfill of what was read and lost, patience with the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forwarder.cli.verify import advice
from forwarder.core.journal import Verdict
from forwarder.runtime.verifying import Audit

SECOND_US = 1_000_000
NOON_US = 1_796_040_000 * SECOND_US
MISSING = Verdict(shown=9, missing=2, first_missing_us=NOON_US, last_missing_us=NOON_US + SECOND_US)
AUDIT = Audit("acme", "access_requests", "siem", MISSING, joined=True, covered_until_us=None)


@pytest.mark.parametrize(
    ("covered_us", "words"),
    [
        (None, "nothing was read so far"),
        (NOON_US - 1, "it is read until 2026-11-30T11:59:59Z so far"),
        (NOON_US, "it is read until 2026-11-30T12:00:00Z so far"),
        (NOON_US + 1, "backfill --again --since 2026-11-30T12:00:00Z --until 2026-11-30T12:00:02Z"),
        (NOON_US + 9 * SECOND_US, "--account acme --stream access_requests --sink siem`"),
    ],
)
def test_only_what_was_passed_is_read_again(covered_us: int | None, words: str) -> None:
    (line,) = advice([replace(AUDIT, covered_until_us=covered_us)])

    assert words in line


def test_a_sink_that_the_journal_does_not_know_is_named_once() -> None:
    stranger = replace(AUDIT, joined=False)

    (line,) = advice([stranger, replace(stranger, stream="scim_updates")])

    assert line.startswith("the journal does not know the sink siem yet")
