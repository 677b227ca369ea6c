"""Three replicas behind one address take pushes, whichever of them has the account's shard."""

from __future__ import annotations

import asyncio
import gzip
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count, cycle
from pathlib import Path

import orjson
import pytest
import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout

from forwarder.journal.fleet import Leases
from forwarder.journal.postgres import Database
from forwarder.journal.tables import create
from forwarder.testing.network import free_port
from tests.end_to_end.processes import Forwarder, until
from tests.end_to_end.test_operations import command
from tests.integration.postgresql import Postgresql

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
SECRET = "0123456789abcdef-the-secret-of-the-job"
SHARDS, ACCOUNTS, BODIES, ROWS = 3, 6, 20, 50
STREAM = "logpush_gateway_dns"
NOWHERE = "http://127.0.0.1:9/client/v4"
SCHEMAS = count()


def body(account: int, number: int) -> bytes:
    rows = [{"Email": f"{account}-{number}-{one}@example.com"} for one in range(ROWS)]
    return gzip.compress(b"".join(orjson.dumps(row) + b"\n" for row in rows), mtime=0)


async def post(http: ClientSession, port: int, account: int, content: bytes) -> str:
    """Send a body once; return its result, the status of a refusal, or nothing if none came."""
    url = f"http://127.0.0.1:{port}/company-{account}/gateway_dns"
    headers = {"Authorization": SECRET, "Content-Encoding": "gzip"}
    try:
        async with http.post(url, data=content, headers=headers) as answer:
            return (await answer.text()).strip() if answer.status == 200 else str(answer.status)
    except (ClientError, TimeoutError):
        return ""


class Replicas:
    """Replicas that only receive, and a balancer that leads each request to the next of them."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.database = database
        self.ports = [free_port() for _ in range(3)]
        self.members = [self._member(folder / f"r{n}", port) for n, port in enumerate(self.ports)]
        self.answers = Counter[str]()
        self._leases = Leases(database, "", 0.0)
        self._next = cycle(self.ports)

    def _member(self, folder: Path, port: int) -> Forwarder:
        folder.mkdir()
        member = Forwarder(folder, NOWHERE)
        secret = folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET)
        settings = yaml.safe_load(member.settings.read_text())
        settings["journal"] = {
            "type": "postgres", "dsn": self.database.conninfo(), "schema": self.database.schema,
            "shards": SHARDS, "lease": "3s",
        }  # fmt: skip
        settings["accounts"] = [
            {"account_id": f"{n:032x}", "name": f"company-{n}", "api_token": f"token-{n}"}
            | {"api_url": NOWHERE, "streams": {"access_requests": {"poll_interval": "1h"}}}
            for n in range(ACCOUNTS)
        ]
        settings["logpush"] = {"listen": f"127.0.0.1:{port}", "secret_file": str(secret)}
        member.settings.write_text(yaml.safe_dump(settings))
        return member

    def owners(self) -> dict[int, str]:
        """Return the process that owns each shard, empty if none does."""
        return {one.shard: one.owner.rpartition(":")[2] for one in self._leases.owners()}

    async def spread(self) -> None:
        """Wait until each replica has a shard, so that most pushes arrive at another."""
        pids = {str(member.process.pid) for member in self.members}
        await until(lambda: set(self.owners().values()) == pids, 60)

    def owner_of(self, shard: int) -> Forwarder:
        pid = self.owners()[shard]
        return next(one for one in self.members if str(one.process.pid) == pid)

    async def push(
        self, http: ClientSession, account: int, content: bytes, port: int | None = None
    ) -> str:
        """Send a body until it is taken, as Cloudflare does; each time to the next replica.

        With a ``port`` it is always the same replica.
        """
        async with asyncio.timeout(120):
            while True:
                result = await post(http, port or next(self._next), account, content)
                self.answers[result] += 1
                if result in {"accepted", "duplicate"}:
                    return result
                await asyncio.sleep(0.1)

    def stored(self) -> Counter[str]:
        """Return how often each pushed row is in the journal; each has one page a body."""
        counts = Counter[str]()
        with self.database.connect() as connection:
            for shard in range(SHARDS):
                schema = self.database.shard_schema(shard)
                for account, rows in connection.execute(
                    f"SELECT account_id, sum(count) FROM {schema}.page JOIN {schema}.stream "
                    f"ON stream.id = page.stream WHERE name = '{STREAM}' GROUP BY 1"
                ).fetchall():
                    counts[account] += rows
        return counts

    def delivered(self) -> set[str]:
        return {
            event["Email"]
            for member in self.members
            for event in member.events()
            if event["_forwarder"]["stream"] == STREAM
        }

    async def pushes(self) -> list[dict[str, str]]:
        """Return what was pushed by the status, once it is that of all shards."""
        async with asyncio.timeout(60):
            while True:
                # A shard may be on its way to the replica that came last.
                _, status, _ = await command(self.members[0], "status", "--json")
                found: dict[str, list[dict[str, str]]] = orjson.loads(status)
                if all(shard["here"] for shard in found["shards"]):
                    return found["pushes"]

    async def aclose(self) -> None:
        for member in self.members:
            await member.kill()
        self._leases.close()


@pytest.fixture
async def replicas(server: Postgresql, tmp_path: Path) -> AsyncIterator[Replicas]:
    database = Database(lambda: server.dsn, f"pushes{next(SCHEMAS)}")
    assert SHARDS == await asyncio.to_thread(create, database, SHARDS)
    replicas = Replicas(tmp_path, database)
    for member in replicas.members:
        await member.start()
    yield replicas
    await replicas.aclose()


async def test_pushes_reach_the_owner_of_the_shard_whichever_replica_takes_them(
    replicas: Replicas,
) -> None:
    """Each replica is killed once while it owns a shard and pushes are under way."""
    victims = [(BODIES * ACCOUNTS * part // 4, part - 1) for part in (1, 2, 3)]
    sent = 0

    async def sender(http: ClientSession, account: int) -> None:
        nonlocal sent
        for number in range(BODIES):
            await replicas.push(http, account, body(account, number))
            sent += 1

    await replicas.spread()
    async with ClientSession(timeout=ClientTimeout(30)) as http, asyncio.TaskGroup() as senders:
        everywhere = [
            await replicas.push(http, account, body(account, BODIES), port)
            for account in range(ACCOUNTS)
            for port in replicas.ports
        ]
        for account in range(ACCOUNTS):
            senders.create_task(sender(http, account))
        for moment, shard in victims:
            await until(lambda moment=moment: sent >= moment)
            await until(lambda shard=shard: replicas.owners()[shard])
            victim = replicas.owner_of(shard)
            await victim.kill()
            await victim.start()
    wanted = {
        f"{account}-{number}-{one}@example.com"
        for account in range(ACCOUNTS)
        for number in range(BODIES + 1)
        for one in range(ROWS)
    }
    await until(lambda: replicas.delivered() == wanted, 60)
    stored = replicas.stored()
    pushes = await replicas.pushes()

    print(dict(replicas.answers))  # noqa: T201
    assert ["accepted", "duplicate", "duplicate"] * ACCOUNTS == everywhere
    assert {f"company-{n}" for n in range(ACCOUNTS)} == {one["account"] for one in pushes}
    assert {f"{n:032x}": (BODIES + 1) * ROWS for n in range(ACCOUNTS)} == dict(stored)


async def test_a_frozen_owner_holds_a_push_no_longer_than_its_shard(replicas: Replicas) -> None:
    """It takes the connection and never answers; limits.time would hold the push for 90 s."""
    await replicas.spread()
    owner = replicas.owner_of(0)
    port = next(p for p, one in zip(replicas.ports, replicas.members, strict=True) if one != owner)
    owner.process.send_signal(signal.SIGSTOP)
    began, answers = time.monotonic(), list[str]()
    async with ClientSession(timeout=ClientTimeout(100)) as http:
        for number in range(ACCOUNTS):
            answers.append(await post(http, port, number, body(number, 0)))
        took = time.monotonic() - began
        later = [await replicas.push(http, n, body(n, 0), port) for n in range(ACCOUNTS)]
    owner.process.send_signal(signal.SIGCONT)

    print(answers, round(took, 1))  # noqa: T201
    assert {"503", "accepted"} == set(answers)
    assert {"accepted", "duplicate"} == set(later)
    assert took < 30
