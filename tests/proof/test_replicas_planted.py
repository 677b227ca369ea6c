"""Mistakes of replicas that share a journal, planted one at a time: each must be found."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from forwarder.testing.network import ToxicProxy
from tests.end_to_end.processes import until
from tests.integration.postgresql import Postgresql
from tests.proof.ledger import Ledger
from tests.proof.replica_chaos import FROZEN, Errand, begin, order
from tests.proof.replicas import replicas
from tests.proof.test_clock import steppable

pytestmark = pytest.mark.timeout(300)
_LEASE = 10.0
"""Seconds; a busy machine may stall for as long as the lease of the other proofs."""
_SLOW = 0.7


async def woken(folder: Path, dsn: str, *options: str) -> list[int]:
    """Freeze the owner, wake it after another has taken over; return the epochs with two writers.

    It is frozen in front of a transaction, so that its first deed is to write.
    """
    async with replicas(folder, dsn) as running:
        for member in running.members:
            await begin(member, *options)
        owner = await running.owned()
        await owner.running()
        order(owner, Errand("before the fence", FROZEN))
        await running.owned(by_other_than=owner)
        await asyncio.sleep(1)
        owner.process.send_signal(signal.SIGCONT)
        await until(lambda: "journal_lost" in owner.errors(), 30)
        return [epoch for _, epoch in running.shared_epochs()]


async def test_a_frozen_owner_that_wakes_writes_nothing(server: Postgresql, tmp_path: Path) -> None:
    assert await woken(tmp_path, server.dsn) == []


async def test_a_missing_fence_is_found(server: Postgresql, tmp_path: Path, ledger: Ledger) -> None:
    shared = await woken(tmp_path, server.dsn, "--fault", "no fence")

    assert shared
    ledger.plant("Replicas", "no fence", f"two connections commit in epochs {shared}")


async def takeovers(folder: Path, dsn: str, *options: str) -> int:
    """Let the standbys' clocks run an hour ahead; return how many of them took the journal."""
    async with replicas(folder, dsn, *options, lease=f"{_LEASE:.0f}s") as running:
        owner = await running.owned()
        standbys = [member for member in running.members if member is not owner]
        for member in standbys:
            steppable(member, member.folder).write_text("+3600")
        await running.restart(*standbys)
        await asyncio.sleep(2 * _LEASE)
        return sum("shard_taken" in member.errors() for member in standbys)


async def test_a_standby_whose_clock_is_ahead_takes_nothing(
    server: Postgresql, tmp_path: Path
) -> None:
    assert await takeovers(tmp_path, server.dsn) == 0


async def test_a_lease_by_the_local_clock_is_found(
    server: Postgresql, tmp_path: Path, ledger: Ledger
) -> None:
    fault = "lease by the local clock"
    found = await takeovers(tmp_path, server.dsn, "--fault", fault)

    assert found > 0
    ledger.plant("Replicas", fault, f"standbys that take the journal of a living owner: {found}")


async def stopped(folder: Path, server: Postgresql, *options: str) -> tuple[int, int]:
    """Stop the owner while a slow SIEM has batches.

    Return the deliveries beyond the first, and how often it could not write to its journal.
    """
    async with replicas(folder, server.dsn, *options) as running:
        await running.settled()
        port = urlsplit(running.sinks.hec.url).port or 0
        with ToxicProxy(port) as wire:
            for member in running.members:
                member.settings["sinks"]["hec"]["url"] = f"http://127.0.0.1:{wire.port}"
            await running.restart(*running.members)
            owner = await running.owned()
            await owner.running()
            await running.settled()
            before = running.again()["hec"]
            wire.delay = _SLOW
            await asyncio.sleep(1)
            assert await owner.stop() == 0
            await running.owned(by_other_than=owner)
            await asyncio.sleep(3)
            wire.delay = 0.0
            await running.settled()
            again = running.again()["hec"] - before
            return again, sum(line["event"] == "journal_troubled" for line in owner.log())


async def test_a_clean_stop_repeats_nothing(server: Postgresql, tmp_path: Path) -> None:
    assert await stopped(tmp_path, server) == (0, 0)


async def test_a_release_before_the_drain_is_found(
    server: Postgresql, tmp_path: Path, ledger: Ledger
) -> None:
    fault = "release before the drain"
    _, refused = await stopped(tmp_path, server, "--fault", fault)

    assert refused > 0
    ledger.plant("Replicas", fault, f"{refused} writes of the drain are refused")
