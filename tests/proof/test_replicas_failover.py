"""The database fails over and loses commits, behind a pooler that hides it: nothing is lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from forwarder.testing.network import ToxicProxy
from tests.integration.pgbouncer import PgBouncer
from tests.integration.postgresql import Postgresql
from tests.integration.unavailable import Unavailable
from tests.proof.ledger import Ledger
from tests.proof.replicas import Replicas, replicas

pytestmark = pytest.mark.timeout(600)
_UNSENT = 3.0
"""Seconds of commits that never reach the standby."""
_AFTER = 5.0


@dataclass
class Cluster:
    """A primary, its asynchronous standby behind a wire that can be held, and a pooler."""

    primary: Postgresql
    wire: ToxicProxy
    standby: Postgresql
    pooler: PgBouncer

    def fail_over(self) -> int:
        """Kill the primary, promote the standby; return how many bytes of its log were lost.

        The wire was held before.
        """
        self.pooler.pause()
        before = _written(self.primary, "pg_current_wal_lsn()")
        self.primary.stop(signal.SIGKILL)
        after = _written(self.standby, "pg_last_wal_receive_lsn()")
        self.standby.promote()
        self.pooler.resume(self.standby.port)
        return before - after


def _written(server: Postgresql, place: str) -> int:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        found = connection.execute(f"SELECT pg_wal_lsn_diff({place}, '0/0')").fetchone()
    assert found is not None
    return int(found[0])


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:
        try:
            primary = stack.enter_context(Postgresql.run())
            wire = stack.enter_context(ToxicProxy(primary.port))
            standby = stack.enter_context(primary.standby(wire.port))
            pooler = stack.enter_context(PgBouncer.run(primary.port))
        except Unavailable as reason:
            pytest.skip(str(reason))
        yield Cluster(primary, wire, standby, pooler)
        wire.hold = False


async def commits_lost(_: Replicas, cluster: Cluster) -> int:
    """Lose the last commits of the owner, which keeps running."""
    cluster.wire.hold = True
    await asyncio.sleep(_UNSENT)
    return await asyncio.to_thread(cluster.fail_over)


async def take_over_lost(running: Replicas, cluster: Cluster) -> int:
    """Lose the commits that made an owner, which sleeps until another one has its epoch."""
    cluster.wire.hold = True
    first = await running.owned()
    first.kill()
    sleeper = await running.owned(by_other_than=first)
    await sleeper.running()
    await asyncio.sleep(_UNSENT)
    sleeper.process.send_signal(signal.SIGSTOP)
    lost = await asyncio.to_thread(cluster.fail_over)
    await running.owned(by_other_than=sleeper)
    sleeper.process.send_signal(signal.SIGCONT)
    return lost


FAILOVERS = {
    "commits are lost": commits_lost,
    "a take-over is lost, and its owner sleeps until its epoch is given out again": take_over_lost,
}


@asynccontextmanager
async def failed_over(
    how: str, folder: Path, cluster: Cluster, *options: str
) -> AsyncIterator[tuple[Replicas, int]]:
    """Run replicas over a failover; give them, and how many bytes of commits it has lost."""
    # Longer than the failover, so that the owner is still the owner when it is over.
    dsn = cluster.pooler.dsn
    async with replicas(folder, dsn, *options, pooler=True, lease="10s") as running:
        await running.settled()
        lost = await FAILOVERS[how](running, cluster)
        # New rows get the numbers of rows that were lost.
        await asyncio.sleep(_AFTER)
        yield running, lost


@pytest.mark.parametrize("how", FAILOVERS)
async def test_a_failover_that_loses_commits_loses_no_row(
    how: str, cluster: Cluster, tmp_path: Path, ledger: Ledger
) -> None:
    async with failed_over(how, tmp_path, cluster) as (running, unsent):
        shown, recovery = await running.settled()
        noticed = [member for member in running.members if "journal_lost" in member.errors()]
        await running.stop()

        assert unsent > 0
        assert noticed
        assert running.sinks.bulk.book.again == 0
        await running.prove(
            ledger,
            f"asynchronous failover behind PgBouncer, which keeps connections: {how}",
            events=shown.total(),
            recovery=recovery,
            more=f"{unsent:,} bytes of commits lost",
        )


async def test_a_fence_without_a_version_is_found(
    cluster: Cluster, tmp_path: Path, ledger: Ledger
) -> None:
    fault, how = ("--fault", "epoch only"), "commits are lost"
    async with failed_over(how, tmp_path, cluster, *fault) as (running, unsent):
        # Of bulk's, some are dead letters.
        left = await running.members[0].standing(running.books) | {"bulk": 0}

        assert unsent > 0
        assert sum(left.values()) > 0
        ledger.plant("Replicas", "a fence without a version", f"{left} lost")
