"""Shards move from replica to replica, and no token is above its budget."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

import psutil
import psycopg
import pytest

from forwarder.simulator.settings import DOCUMENTED_POLICY
from tests.end_to_end.processes import until
from tests.integration.postgresql import Postgresql
from tests.integration.test_shards import SHARDS, ShardedFleet, homes, sharded
from tests.proof.ledger import Ledger

pytestmark = [pytest.mark.alone, pytest.mark.timeout(1800)]
ACCOUNTS, TOKENS = 200, 20


async def test_no_token_is_above_its_budget_through_twenty_take_overs(
    server: Postgresql, tmp_path: Path, ledger: Ledger
) -> None:
    """Kills and stops at random moments, with the budget that Cloudflare documents.

    A replica that is killed takes the requests of its last seconds with it: the share of the budget
    that is never used must cover them.
    """
    random, took = Random(20), list[float]()
    async with sharded(tmp_path, server, "budget", ACCOUNTS, TOKENS, DOCUMENTED_POLICY) as fleet:
        for member in fleet.members:
            await member.start()
        await fleet.balanced(120)
        began, cpu = time.monotonic(), cpu_of(fleet)
        await asyncio.sleep(20)
        used = (cpu_of(fleet) - cpu) / (time.monotonic() - began)
        connections = await asyncio.to_thread(connections_of, server)
        while len(took) < 20:
            victim = random.choice(fleet.running())
            owned = [n for n, pid in fleet.owners().items() if pid == str(victim.process.pid)]
            if not owned:
                await asyncio.sleep(1)
                continue
            await (victim.stop() if len(took) % 3 == 2 else victim.kill())
            started = time.monotonic()
            await until(lambda: all(map(fleet.owner_of, range(SHARDS))), 60)
            took.append(time.monotonic() - started)
            await victim.start()
            await fleet.balanced(120)
        lost = await fleet.lost(120)
        delivered = sum(one.delivered().total() for one in fleet.members)

    assert 0 == lost
    assert 0 == fleet.api.times_throttled
    assert ({1}, {0: 50, 1: 50, 2: 50, 3: 50}) == homes(fleet.database, TOKENS)
    busiest = fleet.api.requests.busiest(DOCUMENTED_POLICY.window)
    ledger.row(
        "Replicas",
        f"{SHARDS} shards, 3 replicas, {ACCOUNTS} accounts on {TOKENS} tokens: a replica is killed "
        "or stopped",
        times=len(took),
        events=delivered,
        lost=lost,
        recovery=round(max(took), 1),
        more=f"{fleet.api.times_throttled} requests above a budget; at most "
        f"{busiest:,} in five minutes with all tokens, "
        f"which may make {TOKENS * DOCUMENTED_POLICY.requests:,}; while quiet, all replicas use "
        f"{100 * used:.0f} % of a core and {connections} connections to the database; recovery is "
        "the time until every shard has an owner",
    )


def cpu_of(fleet: ShardedFleet) -> float:
    """Return the seconds of processor time that the replicas have used."""
    times = [psutil.Process(one.process.pid).cpu_times() for one in fleet.running()]
    return sum(one.user + one.system for one in times)


def connections_of(server: Postgresql) -> int:
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forwarder'"
        )
        (count,) = found.fetchone() or (0,)
    return int(count)
