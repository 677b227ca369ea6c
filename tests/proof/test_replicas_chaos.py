"""The owner of a shared journal dies or freezes anywhere: no row is lost, a standby takes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.postgresql import Postgresql
from tests.proof.ledger import Ledger
from tests.proof.replica_chaos import FROZEN, IDLE, KILLED, TAKEN_WITHIN, Outcome, survived


def assert_in_time(outcome: Outcome) -> None:
    """Fail unless a standby had everything within the lease and a little more, each time."""
    assert outcome.slowest(KILLED) < (TAKEN_WITHIN, "")
    assert outcome.slowest(FROZEN) < (TAKEN_WITHIN + IDLE, "")


@pytest.mark.alone
@pytest.mark.timeout(3600)
async def test_no_row_is_lost_whoever_dies_or_freezes(
    server: Postgresql, tmp_path: Path, ledger: Ledger
) -> None:
    outcome = await survived(tmp_path, server.dsn, rounds=100)

    assert_in_time(outcome)
    what = "three replicas, five sinks: the owner is killed or frozen"
    ledger.row("Replicas", what, **outcome.figures())


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("half", [1, 2])
async def test_no_row_is_lost_in_a_thousand_rounds(
    half: int, server: Postgresql, tmp_path: Path, ledger: Ledger
) -> None:
    """In two runs, which may go on side by side: a round is mostly waiting."""
    outcome = await survived(tmp_path, server.dsn, rounds=500, seed=half)

    assert_in_time(outcome)
    what = f"a thousand rounds, {half} of 2: the owner of three replicas is killed or frozen"
    ledger.row("Replicas", what, **outcome.figures())


@pytest.mark.alone
@pytest.mark.timeout(3600)
async def test_no_row_of_a_shard_is_lost_whoever_dies_or_freezes(
    server: Postgresql, tmp_path: Path, ledger: Ledger
) -> None:
    outcome = await survived(tmp_path, server.dsn, rounds=20, shards=4)

    assert_in_time(outcome)
    what = "three replicas, four shards, five sinks: one with a shard is killed or frozen"
    ledger.row("Replicas", what, **outcome.figures())
