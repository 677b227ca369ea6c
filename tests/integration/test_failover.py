"""Three replicas on one PostgreSQL journal: whatever dies, no row is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession

from forwarder import __version__
from forwarder.core.timing import parse_us
from forwarder.journal.fleet import Leases
from forwarder.journal.postgres import Database
from forwarder.testing.network import free_port
from tests.end_to_end.processes import SCRIPT, Cloudflare, Forwarder, cloudflare, until
from tests.integration.postgresql import Postgresql
from tests.proof.replica_chaos import survived

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
LEASE = 3.0
OWNED = 'forwarder_shard_owned{{shard="0"}} {}.0'


class Replicas:
    """Three daemons with one journal, and what they have delivered together."""

    def __init__(self, folder: Path, api: Cloudflare, dsn: str, schema: str) -> None:
        self.api = api
        self.members = [self._member(folder / f"r{n}", dsn, schema) for n in range(3)]
        self._leases = Leases(Database(lambda: dsn, schema), "", 0.0)

    def _member(self, folder: Path, dsn: str, schema: str) -> Forwarder:
        folder.mkdir()
        member = Forwarder(folder, self.api.url)
        settings: dict[str, Any] = yaml.safe_load(member.settings.read_text())
        settings["journal"] = {
            "type": "postgres", "dsn": dsn, "schema": schema, "lease": f"{LEASE:.0f}s",
        }  # fmt: skip
        # Nothing reads a row twice, so that nothing repairs a loss.
        for stream in settings["accounts"][0]["streams"].values():
            stream |= {"reconcile": [], "overlap": "2s"}
        member.settings.write_text(yaml.safe_dump(settings))
        return member

    async def create(self) -> str:
        process = await asyncio.create_subprocess_exec(
            SCRIPT, "journal", "create", "-c", self.members[0].settings,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0
        return said.decode()

    def owner(self) -> Forwarder | None:
        """Return who has the journal by the judgement of the database."""
        (shard,) = self._leases.owners()
        pid = shard.owner.rpartition(":")[2]
        return next((m for m in self.members if str(m.process.pid) == pid), None)

    async def owned(self, *, by_other_than: Forwarder | None = None) -> float:
        """Wait for an owner; return how long it took."""
        started = time.monotonic()
        await until(lambda: self.owner() not in {None, by_other_than}, 60)
        return time.monotonic() - started

    async def metrics(self, member: Forwarder) -> str:
        async with (
            ClientSession() as http,
            http.get(f"{await member.admin_url()}/metrics") as answer,
        ):
            return await answer.text()

    async def shows(self, member: Forwarder, *lines: str) -> str:
        """Return a replica's metrics once they have these lines."""
        found = ""

        async def has() -> bool:
            nonlocal found
            found = await self.metrics(member)
            return all(line in found for line in lines)

        await until(has, 30)
        return found

    def delivered(self) -> Counter[bytes]:
        return sum((member.delivered() for member in self.members), Counter[bytes]())

    async def lost(self, wait: float = 60) -> int:
        """Return how many rows that were shown nobody has delivered, after ``wait`` at the most."""
        shown = await self.api.shown()
        with suppress(TimeoutError):
            await until(lambda: not shown - self.delivered(), wait)
        return (shown - self.delivered()).total()

    async def aclose(self) -> None:
        for member in self.members:
            if hasattr(member, "process"):
                if member.process.returncode is None:
                    member.process.send_signal(signal.SIGCONT)
                await member.kill()
        self._leases.close()


@asynccontextmanager
async def replicas(folder: Path, server: Postgresql, schema: str) -> AsyncIterator[Replicas]:
    async with cloudflare("--rate", "40", "--scim-rate", "3", "--history", "1m") as api:
        running = Replicas(folder, api, server.dsn, schema)
        try:
            await running.create()
            for member in running.members:
                await member.start()
            await running.owned()
            yield running
        finally:
            await running.aclose()


async def test_a_clean_stop_hands_over_within_a_second(server: Postgresql, tmp_path: Path) -> None:
    async with replicas(tmp_path, server, "handover") as running:
        await asyncio.sleep(3)
        first = running.owner()
        assert first is not None

        assert await first.stop() == 0
        took = await running.owned(by_other_than=first)

        assert 1.0 > took
        assert 0 == await running.lost()


async def test_metrics_of_replicas_count_one_owner_and_all_that_live(
    server: Postgresql, tmp_path: Path
) -> None:
    async with replicas(tmp_path, server, "metrics") as running:
        owner = running.owner()
        assert owner is not None
        texts = [await running.shows(one, "forwarder_replicas 3.0") for one in running.members]
        await owner.kill()
        await running.owned(by_other_than=owner)
        heir = running.owner()
        assert heir is not None
        await until(lambda: "shard_taken" in heir.errors())
        epoch = 'forwarder_shard_epoch{shard="0"} 2.0'
        after = await running.shows(heir, "forwarder_replicas 2.0", epoch, OWNED.format(1))

    owned = Counter(text.splitlines().count(OWNED.format(1)) for text in texts)
    assert {1: 1, 0: 2} == owned
    assert all("forwarder_started_timestamp_seconds 0.0" not in text for text in texts)
    assert 'forwarder_takeovers_total{reason="expired"} 1.0' in after


async def test_a_standby_is_ready_and_says_who_has_the_journal(
    server: Postgresql, tmp_path: Path
) -> None:
    async with replicas(tmp_path, server, "standby") as running:
        owner = running.owner()
        assert owner is not None
        standby = next(member for member in running.members if member is not owner)
        async with ClientSession() as http:
            url = await standby.admin_url()
            await until(lambda: "standing_by" in standby.errors())
            await asyncio.sleep(1)
            async with http.get(f"{url}/readyz") as answer:
                ready = answer.status
            async with http.get(f"{url}/status") as answer:
                status = await answer.json()

        assert 200 == ready
        (taken,) = [parse_us(shard["since"]) for shard in status["shards"]]
        assert taken is not None
        assert 60 > time.time() - taken / 1_000_000 >= 0
        found = {one["name"].rpartition(":")[2]: one for one in status["replicas"]}
        assert {str(one.process.pid) for one in running.members} == set(found)
        assert {"[0]": 1, "[]": 2} == Counter(str(one["shards"]) for one in found.values())
        for member in running.members:
            shown = found[str(member.process.pid)]
            assert await member.admin_url() == shown["admin_url"]
            assert (__version__, "") == (shown["version"], shown["push_url"])
            assert parse_us(shown["since"]) is not None
        assert [str(owner.process.pid)] == [
            shard["owner"].rpartition(":")[2] for shard in status["shards"]
        ]


async def run_once(folder: Path, dsn: str) -> tuple[int | None, str]:
    """Start one replica; return its exit status (None: it runs) and its errors after a while."""
    async with cloudflare("--rate", "1") as api:
        running = Replicas(folder, api, dsn, "faulty")
        member = running.members[0]
        await member.start()
        with suppress(TimeoutError):
            await asyncio.wait_for(member.process.wait(), 8)
        status = member.process.returncode
        await running.aclose()
        return status, member.errors()


async def test_a_replica_without_tables_ends_and_says_what_to_do(
    server: Postgresql, tmp_path: Path
) -> None:
    status, said = await run_once(tmp_path, server.dsn)

    assert status not in {None, 0}
    assert "forwarder journal create" in said


async def test_a_replica_that_may_not_connect_ends_with_faults_of_its_settings(
    server: Postgresql, tmp_path: Path
) -> None:
    status, said = await run_once(tmp_path, server.dsn.replace("user=forwarder", "user=nobody"))

    assert 2 == status
    assert "create the database and the role" in said


async def test_a_replica_waits_for_a_database_that_is_away(tmp_path: Path) -> None:
    dsn = f"host=127.0.0.1 port={free_port()} user=forwarder dbname=postgres password=hidden"

    status, said = await run_once(tmp_path, dsn)

    assert status is None
    assert "the journal's database is unavailable" in said
    assert "hidden" not in said


async def test_nothing_is_lost_whoever_dies_or_freezes(server: Postgresql, tmp_path: Path) -> None:
    """A few rounds of what ``make proof`` does a hundred times."""
    outcome = await survived(tmp_path, server.dsn, rounds=4)

    assert 4 == len(outcome.struck), outcome
