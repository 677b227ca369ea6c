"""The disk of the database is full: replicas wait, say so, and lose nothing.

A full volume of tables refuses writes. On a full volume of its write-ahead log, PostgreSQL ends all
sessions and perhaps itself: somebody must free space, and start it again.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.end_to_end.processes import until
from tests.integration.postgresql import Postgresql, memory_folder
from tests.integration.unavailable import Unavailable
from tests.proof.ledger import Ledger
from tests.proof.replicas import Replicas, replicas
from tests.proof.site import Site
from tests.proof.volumes import Volume, volume

pytestmark = pytest.mark.timeout(600)
_TIMES = 3
_FULL = 10.0
_NOTICED = 180.0
_OUTAGE = 300.0
_SECRET = "the-secret-of-the-job"
_PUSHED = "logpush_access_requests"
_BODY_ROWS = 50
_MIB = {"tables": 64, "wal": 48}
_SAID = {"tables": "free space on it", "wal": "the journal's database is unavailable"}


@pytest.fixture(params=_MIB)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def small(kind: str) -> Iterator[Volume]:
    with memory_folder() as folder, volume(folder / "volume", _MIB[kind]) as small:
        yield small


@pytest.fixture
def server(kind: str, small: Volume) -> Iterator[Postgresql]:
    try:
        with Postgresql.run(**{kind: small.folder}) as server:
            yield server
    except Unavailable as reason:
        pytest.skip(str(reason))


class Pusher:
    """Pushes bodies as Cloudflare does, each until a replica has taken it."""

    def __init__(self, members: list[Site]) -> None:
        self._members = members
        self.taken: list[str] = []
        """The addresses in the rows of the bodies that were answered with 200."""

    async def push(self) -> None:
        """Push one body after the other until cancelled."""
        async with ClientSession(timeout=ClientTimeout(total=5)) as http:
            for number in count():
                people = [f"user{number}-{row}@example.com" for row in range(_BODY_ROWS)]
                rows = b"".join(orjson.dumps({"Email": one}) + b"\n" for one in people)
                await until(partial(self._is_taken, http, gzip.compress(rows)), _OUTAGE)
                self.taken += people

    async def _is_taken(self, http: ClientSession, body: bytes) -> bool:
        headers = {"Authorization": _SECRET, "Content-Encoding": "gzip"}
        for member in self._members:
            with suppress(ClientError, TimeoutError):
                url = f"{listening(member)}/company-0/access_requests"
                async with http.post(url, data=body, headers=headers) as answer:
                    if answer.status == 200:
                        return True
        return False


def listening(member: Site) -> str:
    """Return where a replica receives pushes."""
    return str(next(line["url"] for line in member.log() if line["event"] == "logpush_listening"))


def delivered(folder: Path) -> set[str]:
    """Return the addresses in the pushed rows that are on somebody's stdout."""
    lines = b"".join(file.read_bytes() for file in folder.glob("r*/out.*")).splitlines()
    events = [orjson.loads(line) for line in lines if _PUSHED.encode() in line]
    return {event["Email"] for event in events if event["_forwarder"]["stream"] == _PUSHED}


async def verdict(member: Site) -> str:
    """Return what /readyz says against a replica, nothing if it is ready."""
    url = next(line["url"] for line in member.log() if line["event"] == "admin_listening")
    async with ClientSession() as http, http.get(f"{url}/readyz") as answer:
        return "" if answer.status == 200 else await answer.text()


@asynccontextmanager
async def pushed(folder: Path, dsn: str) -> AsyncIterator[tuple[Replicas, Pusher]]:
    """Run replicas that are pushed to all the time."""
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(_SECRET)
    receiver = {"listen": "127.0.0.1:0", "secret_file": str(secret), "deliver": "both"}
    async with replicas(folder, dsn) as running:
        for member in running.members:
            member.settings["logpush"] = receiver
        await running.restart(*running.members)
        await (await running.owned()).running()
        pusher = Pusher(running.members)
        pushing = asyncio.create_task(pusher.push())
        try:
            await running.settled()
            await until(lambda: pusher.taken)
            yield running, pusher
        finally:
            pushing.cancel()


def troubles(running: Replicas) -> int:
    """Return how often replicas said that they cannot write their journal."""
    return sum(member.errors().count("journal_troubled") for member in running.members)


async def starve(running: Replicas, server: Postgresql, small: Volume) -> list[str]:
    """Fill the volume for a while; return what /readyz of each replica said at the end of it."""
    before, noticed = troubles(running), 0.0

    def has_lasted() -> bool:
        nonlocal noticed
        # What the server frees meanwhile is taken, too.
        small.fill()
        if not noticed and troubles(running) > before:
            noticed = time.monotonic()
        return noticed > 0 and time.monotonic() - noticed > _FULL

    await until(has_lasted, _NOTICED)
    said = [await verdict(member) for member in running.members]
    small.empty()
    async with asyncio.timeout(_NOTICED):
        # Whether it ends by itself, and when, is its own decision.
        while not server.answers:
            if server.ended:
                await asyncio.to_thread(server.start)
            await asyncio.sleep(0.2)
    return said


async def test_a_full_disk_of_the_database_is_waited_for(
    kind: str, server: Postgresql, small: Volume, tmp_path: Path, ledger: Ledger
) -> None:
    async with pushed(tmp_path, server.dsn) as (running, pusher):
        before = [member.process.pid for member in running.members]
        said, waits = list[str](), list[float]()
        for _ in range(_TIMES):
            said += await starve(running, server, small)
            _, recovery = await running.settled()
            waits.append(recovery)
        shown, _ = await running.settled()
        taken = set(pusher.taken)
        await until(lambda: taken <= delivered(tmp_path), 60)
        alive = [one.process.pid for one in running.members if one.process.returncode is None]
        await running.stop()

        assert running.sinks.bulk.book.again == 0
        assert running.shared_epochs() == []
        assert alive == before
        assert _SAID[kind] in "".join(said)
        await running.prove(
            ledger,
            f"the volume of the database's {kind} has no free byte for {_FULL:.0f} s",
            times=_TIMES,
            events=shown.total() + len(taken),
            recovery=max(waits),
            more=f"{len(taken):,} pushed rows were answered with 200, all are delivered",
        )
