"""Several shards over several replicas: balanced, moved whole, and each token within its budget."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml

from forwarder.journal.fleet import Leases
from forwarder.journal.postgres import Database
from forwarder.journal.tables import create
from forwarder.simulator import Simulator, SimulatorSettings, Token
from forwarder.simulator.settings import RatePolicy
from tests.end_to_end.processes import Forwarder, comparable, until
from tests.integration.postgresql import Postgresql

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
LEASE = 3.0
SHARDS = 4
POLICY = RatePolicy(requests=60, window=10.0, block=10.0)


def simulated(accounts: int, tokens: int, rate: float, policy: RatePolicy) -> SimulatorSettings:
    ids = tuple(f"{n:032x}" for n in range(accounts))
    return SimulatorSettings(
        accounts=ids,
        tokens=tuple(
            Token(f"token-{n}", accounts=frozenset(ids[n::tokens])) for n in range(tokens)
        ),
        rate=rate,
        scim_rate=0.0,
        history=60.0,
        policy=policy,
    )


class ShardedFleet:
    """Replicas on one journal with several shards; accounts share tokens."""

    def __init__(
        self, folder: Path, api: Simulator, simulated: SimulatorSettings, database: Database
    ) -> None:
        self.api = api
        self.database = database
        self.accounts = simulated.accounts
        self.members = [self._member(folder / f"r{n}", simulated) for n in range(3)]
        self._leases = Leases(database, "", 0.0)

    def _member(self, folder: Path, simulated: SimulatorSettings) -> Forwarder:
        policy = simulated.policy or POLICY
        folder.mkdir()
        member = Forwarder(folder, self.api.url)
        settings = yaml.safe_load(member.settings.read_text())
        settings["journal"] = {
            "type": "postgres", "dsn": self.database.conninfo(), "schema": self.database.schema,
            "lease": f"{LEASE:.0f}s", "shards": SHARDS,
        }  # fmt: skip
        # Nothing reads a row twice, so that nothing repairs a loss.
        stream = {"poll_interval": "3s", "reconcile": [], "overlap": "2s", "start_from": "1h"}
        settings["accounts"] = [
            {
                "account_id": account,
                "name": f"company-{n}",
                "api_token": simulated.tokens[n % len(simulated.tokens)].value,
                "api_url": self.api.url,
                "rate_limit": {"requests": policy.requests, "per": f"{policy.window:.0f}s"},
                "streams": {"access_requests": stream},
            }
            for n, account in enumerate(simulated.accounts)
        ]
        member.settings.write_text(yaml.safe_dump(settings))
        return member

    def owners(self) -> dict[int, str]:
        """Return the process that owns each shard, empty if none does."""
        return {one.shard: one.owner.rpartition(":")[2] for one in self._leases.owners()}

    def held(self) -> Counter[str]:
        return Counter(self.owners().values())

    def running(self) -> list[Forwarder]:
        return [m for m in self.members if hasattr(m, "process") and m.process.returncode is None]

    async def balanced(self, wait: float = 60) -> float:
        """Wait until every replica has as many shards as another, give or take one."""
        started = time.monotonic()
        pids = [str(member.process.pid) for member in self.running()]
        most = -(-SHARDS // len(pids))

        def is_balanced() -> bool:
            held = self.held()
            return not held[""] and all(SHARDS // len(pids) <= held[p] <= most for p in pids)

        await until(is_balanced, wait)
        return time.monotonic() - started

    def owner_of(self, shard: int) -> Forwarder | None:
        pid = self.owners()[shard]
        return next((m for m in self.running() if str(m.process.pid) == pid), None)

    async def lost(self, wait: float = 60) -> int:
        """Return how many rows that were shown nobody has delivered, after ``wait`` at the most."""
        shown = Counter(
            comparable(row)
            for feed in self.api.feeds()
            for row in self.api.expected(feed.account, feed.stream)
        )

        def missing() -> int:
            delivered = sum((m.delivered() for m in self.members), Counter[bytes]())
            return (shown - delivered).total()

        with suppress(TimeoutError):
            await until(lambda: not missing(), wait)
        return missing()

    async def aclose(self) -> None:
        for member in self.running():
            member.process.send_signal(signal.SIGCONT)
            await member.kill()
        self._leases.close()


@asynccontextmanager
async def sharded(
    folder: Path,
    server: Postgresql,
    schema: str,
    accounts: int,
    tokens: int,
    policy: RatePolicy = POLICY,
) -> AsyncIterator[ShardedFleet]:
    database = Database(lambda: server.dsn, schema)
    assert SHARDS == await asyncio.to_thread(create, database, SHARDS)
    settings = simulated(accounts, tokens, 0.2, policy)
    async with Simulator(settings) as api:
        fleet = ShardedFleet(folder, api, settings, database)
        try:
            yield fleet
        finally:
            await fleet.aclose()


def homes(database: Database, tokens: int) -> tuple[set[int], Counter[int]]:
    """Return how many shards each token's accounts are in, and the accounts of each shard."""
    with database.connect() as connection:
        placed = connection.execute(
            f"SELECT account_id, shard FROM {database.schema}.account"
        ).fetchall()
    shards: dict[int, set[int]] = {}
    for account, shard in placed:
        shards.setdefault(int(account, 16) % tokens, set()).add(shard)
    return {len(one) for one in shards.values()}, Counter(shard for _, shard in placed)


async def test_shards_are_balanced_as_replicas_come_and_go_and_nothing_is_lost(
    server: Postgresql, tmp_path: Path
) -> None:
    async with sharded(tmp_path, server, "balance", 8, 4) as fleet:
        first, second, third = fleet.members
        await first.start()
        alone = await fleet.balanced()
        await second.start()
        await third.start()
        joined = await fleet.balanced()
        await second.kill()
        died = await fleet.balanced()
        assert 0 == await first.stop()
        left = await fleet.balanced()
        await first.start()
        again = await fleet.balanced()
        lost = await fleet.lost()
        lines = [line for m in fleet.members for line in m.log()]

    print(  # noqa: T201
        f"balanced after: one {alone:.1f} s, three {joined:.1f} s, one died {died:.1f} s,"
        f" one stopped {left:.1f} s, one came back {again:.1f} s; {lost} lost"
    )
    events = Counter(line["event"] for line in lines)
    assert 0 == lost
    assert 0 == fleet.api.times_throttled
    assert ({1}, {0: 2, 1: 2, 2: 2, 3: 2}) == homes(fleet.database, 4)
    assert 0 < events["shard_given"]
    # A loaded machine may lose a lease of three seconds, which is not a fault.
    assert [] == [line for line in lines if line["event"] == "task_crashed"]


async def test_a_shard_that_is_given_back_is_no_trouble_of_the_journal(
    server: Postgresql, tmp_path: Path
) -> None:
    """Its upkeep ends with its turn, also if that of another shard is slow at that moment."""
    async with sharded(tmp_path, server, "given", 4, 4) as fleet:
        giver, taker, _ = fleet.members
        await giver.start()
        await fleet.balanced()
        await taker.start()
        await fleet.balanced()
        taker.process.send_signal(signal.SIGSTOP)
        await until(lambda: fleet.held()[str(giver.process.pid)] == SHARDS)
        with fleet.database.connect() as connection, connection.transaction():
            connection.execute(f"LOCK TABLE {fleet.database.shard_schema(0)}.page")
            await until(lambda: is_pruned(fleet.database))
            taker.process.send_signal(signal.SIGCONT)
            await until(lambda: fleet.owner_of(SHARDS - 1) is taker)
        await asyncio.sleep(3)
        lines = giver.log()

    assert [] == [one for one in lines if one.get("error") == "the journal is closed"]


def is_pruned(database: Database) -> bool:
    """Return True while a lock holds up what an owner does for its journal every few seconds."""
    with database.connect() as connection:
        # Only who writes has a number for the transaction.
        waiting = connection.execute(
            "SELECT query FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND backend_xid IS NOT NULL"
        ).fetchall()
    return any("sum(size)" in query for (query,) in waiting)


async def test_a_replica_with_older_settings_takes_no_shard_while_a_newer_one_lives(
    server: Postgresql, tmp_path: Path
) -> None:
    async with sharded(tmp_path, server, "rolling", 4, 2) as fleet:
        old, new, _ = fleet.members
        settings = yaml.safe_load(new.settings.read_text())
        settings["sinks"]["added"] = {"type": "null"}
        new.settings.write_text(yaml.safe_dump(settings))
        await old.start()
        await until(lambda: fleet.held()[str(old.process.pid)] == SHARDS)
        await new.start()
        await until(lambda: "settings_older" in old.errors())
        await asyncio.sleep(LEASE)
        kept = fleet.held()[str(old.process.pid)]
        assert 0 == await old.stop()
        await until(lambda: fleet.held()[str(new.process.pid)] == SHARDS)
        await old.start()
        await until(lambda: "settings_older" in old.errors())
        await asyncio.sleep(2 * LEASE)
        stays = fleet.held()[str(new.process.pid)]
        assert 0 == await new.stop()
        await until(lambda: fleet.held()[str(old.process.pid)] == SHARDS)
        lost = await fleet.lost()
        with fleet.database.connect() as connection:
            gaps = [
                connection.execute(
                    f"SELECT reason FROM {fleet.database.shard_schema(n)}.gap"
                ).fetchall()
                for n in range(SHARDS)
            ]

    # What runs is not disturbed, only what is free goes to the newer one.
    assert (SHARDS, SHARDS) == (kept, stays)
    assert [[]] * SHARDS == gaps
    assert 0 == lost
