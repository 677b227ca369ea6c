"""Commands on a journal of several shards: whoever owns them, all do their part, or one says so."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder.admin.client import ask
from forwarder.core.contracts import LIVE, StreamKey
from forwarder.core.journal import Keeping
from forwarder.core.log import Addition, DeadLetter, Progress, ReaderState
from forwarder.core.telemetry import ignore
from forwarder.core.timing import SystemClock
from forwarder.journal.fleet import SqlFleet
from forwarder.journal.postgres import Database
from tests.end_to_end.processes import SCRIPT, until
from tests.integration.postgresql import Postgresql
from tests.integration.test_journal_copy import forwarder
from tests.integration.test_shards import SHARDS, ShardedFleet, sharded
from tests.journal.conftest import NOON_US, records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
STREAM = "access_requests"
LETTERS = 3
"""Dead letters of each shard."""


async def filled(database: Database, accounts: Sequence[str]) -> None:
    """Leave rows, a sink that is gone and dead letters in each shard; place the accounts."""
    fleet, clock = SqlFleet(database, "past", 60), SystemClock()
    placed = await fleet.place({one: f"token {int(one, 16) % 4}" for one in accounts})
    for shard in range(SHARDS):
        lease = fleet.lease(shard)
        assert await lease.take()
        journal = await lease.open(Keeping(2**30, 2**40), clock=clock, emit=ignore)
        siem = await journal.sink_queue("siem")
        await journal.sink_queue("gone")
        now_us = clock.now_us()
        rows = records(*(now_us - 90_000_000 + n for n in range(LETTERS)))
        for account, home in placed.items():
            if home == shard:
                await journal.stream_log(StreamKey(account, STREAM)).append(
                    Addition(LIVE, ReaderState(now_us), now_us, rows)
                )
        letters = [DeadLetter(offset, "refused") for offset in range(1, 1 + LETTERS)]
        await siem.acknowledge(LIVE, Progress(1 + 2 * LETTERS), letters)
        await journal.aclose()
        await lease.release()
    await fleet.aclose()


class Site:
    """Replicas on a journal that has a past, and a machine that only has its credentials."""

    def __init__(self, fleet: ShardedFleet, folder: Path) -> None:
        self.fleet = fleet
        self.laptop = folder / "laptop.yaml"
        settings: dict[str, Any] = {}
        for member in fleet.members:
            settings = yaml.safe_load(member.settings.read_text())
            settings["sinks"]["siem"] = {"type": "null"}
            # The last one has older settings, and takes no shard while the others live.
            newer = member is not fleet.members[-1]
            settings["journal"]["settings_generation"] = 2 if newer else 1
            member.settings.write_text(yaml.safe_dump(settings))
        settings["state_dir"] = str(folder / "laptop")
        self.laptop.write_text(yaml.safe_dump(settings))

    async def start(self) -> None:
        """Start all replicas; two have two shards each, one has none."""
        for member in self.fleet.members[:2]:
            await member.start()
        await self.fleet.balanced()
        await self.fleet.members[-1].start()
        await until(lambda: "settings_older" in self.fleet.members[-1].errors())
        await until(lambda: all(one.has_started() for one in self.fleet.members[:2]))

    async def run(self, *words: str, settings: Path | None = None) -> tuple[int, str]:
        return await forwarder(*words, "-c", settings or self.laptop)

    async def begin(self, *words: str) -> Process:
        return await asyncio.create_subprocess_exec(
            SCRIPT, *words, "-c", self.laptop, stdout=PIPE, stderr=STDOUT
        )

    def counts(self, table: str, where: str = "TRUE") -> list[int]:
        """Return how many rows of a table each shard has."""
        database, found = self.fleet.database, list[int]()
        with database.connect() as connection:
            for shard in range(SHARDS):
                sql = f"SELECT count(*) FROM {database.shard_schema(shard)}.{table} WHERE {where}"
                found += connection.execute(sql).fetchone() or ()
        return found

    def requests(self) -> list[tuple[Any, ...]]:
        """Return the shards of the requests that nobody has answered, and who has taken them."""
        with self.fleet.database.connect() as connection:
            return connection.execute(
                f"SELECT shard, epoch FROM {self.fleet.database.home}.request WHERE answer IS NULL"
            ).fetchall()


@asynccontextmanager
async def site(
    folder: Path, server: Postgresql, schema: str, *, running: bool
) -> AsyncIterator[Site]:
    async with sharded(folder, server, schema, 8, 4) as fleet:
        await filled(fleet.database, fleet.accounts)
        found = Site(fleet, folder)
        if running:
            await found.start()
        yield found


COMMANDS = (
    ("dead-letters", "drop", "--sink=siem", "--yes", "0-1", "3-2"),
    ("dead-letters", "replay", "--sink=siem", "1-1"),
    ("dead-letters", "drop", "--sink=siem", "--yes"),
    ("replay", "--sink=siem", "--since=1h"),
    ("cursors", "set", "--account=company-5", f"--stream={STREAM}", "--to=2m", "--yes"),
    ("backfill", "--since=50s", "--again"),
    ("sinks", "forget", "gone", "--yes"),
)
"""What each says is in ``SAID``."""
SAID = (
    "2 dead letter(s) of siem deleted",
    "1 event(s) in lane replay:",
    f"{SHARDS * LETTERS - 3} dead letter(s) of siem deleted",
    " event(s) in lane replay:",
    f"company-5/{STREAM}: covered until ",
    ": done, ",
    "gone is forgotten: ",
)


async def carried_out(here: Site, settings: Path) -> None:
    """Run every command that changes something, and see each shard changed."""
    listed = yaml.safe_load((await here.run("dead-letters", "list", "--json"))[1])
    assert {f"{n}-{one + 1}" for n in range(SHARDS) for one in range(LETTERS)} == {
        letter["id"] for letter in listed
    }
    shown = yaml.safe_load((await here.run("dead-letters", "show", "2-1"))[1])
    assert "2-1" == shown["id"]

    said = [await here.run(*words, settings=settings) for words in COMMANDS]

    assert [0] * len(COMMANDS) == [status for status, _ in said], said
    for (_, text), expected in zip(said, SAID, strict=True):
        assert expected in text
    assert [0] * SHARDS == here.counts("dead_letter", "lane IS NULL")
    assert [1] * SHARDS == here.counts("lane", "kind = 'replay'")
    assert [1] * SHARDS == here.counts("lane", "kind = 'backfill'")
    assert [0] * SHARDS == here.counts("sink", "name = 'gone'")
    lane = said[3][1].partition(" in lane ")[2].partition(",")[0]
    again = await here.run("replay", "--sink=siem", "--since=1h", f"--lane={lane}")
    assert (0, True) == (again[0], again[1].startswith("0 event(s) in lane")), again
    assert [1] * SHARDS == here.counts("lane", "kind = 'replay'")
    lane = said[5][1].partition(": done, ")[0].split()[-1]
    again = await here.run("backfill", "--since=50s", "--again", f"--lane={lane}")
    assert (0, True) == (again[0], f"{lane}: done, " in again[1]), again
    assert [1] * SHARDS == here.counts("lane", "kind = 'backfill'")


async def test_a_command_of_a_replica_that_owns_no_shard_reaches_all(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "none_of_them", running=True) as here:
        idle = here.fleet.members[-1]
        await carried_out(here, idle.settings)
        held = here.fleet.held()
        given = {"sink": "siem", "since_us": NOON_US}
        lanes = [
            (await asyncio.to_thread(ask, one.folder / "state", "replay", given))["lane"]
            for one in here.fleet.members
        ]
        replays = here.counts("lane", "kind = 'replay'")
        status = yaml.safe_load((await here.run("status", "--json", settings=idle.settings))[1])

    assert {str(one.process.pid): 2 for one in here.fleet.members[:2]} == held
    assert 3 == len({*lanes})
    assert [4] * SHARDS == replays
    assert {f"company-{n}" for n in range(8)} == {one["account"] for one in status["streams"]}
    assert [True] * SHARDS == [one["here"] for one in status["shards"]]
    assert 3 == len(status["replicas"])
    assert ["console", "siem"] == sorted(one["sink"] for one in status["sinks"])


async def test_a_command_without_any_replica_does_it_in_every_shard(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "nobody_there", running=False) as here:
        await carried_out(here, here.laptop)
        owners = here.fleet.held()

    assert {"": SHARDS} == owners


async def test_a_command_that_one_shard_cannot_answer_says_so_and_can_be_repeated(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "frozen_owner", running=True) as here:
        fleet = here.fleet
        with fleet.database.connect() as blocking, blocking.transaction():
            blocking.execute(f"LOCK TABLE {fleet.database.shard_schema(2)}.gap")
            asking = await here.begin("sinks", "forget", "gone", "--yes")
            await until(lambda: [2] == [n for n, epoch in here.requests() if epoch])
            owner = fleet.owner_of(2)
            assert owner is not None
            owner.process.send_signal(signal.SIGSTOP)
        said = (await asking.communicate())[0].decode()
        left = here.counts("sink", "name = 'gone'")
        repeated = await here.run("sinks", "forget", "gone", "--yes")
        at_last = here.counts("sink", "name = 'gone'")

    assert 3 == asking.returncode, said
    assert "done in shards 0, 1, 3 only (events " in said
    assert "Not done in shard 2: the replica that took the request stopped before it" in said
    assert [0, 0, 1, 0] == left
    assert 0 == repeated[0], repeated
    assert [0] * SHARDS == at_last


async def test_the_settings_name_the_number_of_shards_that_the_journal_has(
    server: Postgresql, tmp_path: Path
) -> None:
    async with sharded(tmp_path, server, "numbers", 8, 4) as fleet:
        member = fleet.members[0]
        settings = yaml.safe_load(member.settings.read_text())

        async def run(shards: int, *words: str) -> tuple[int, str]:
            settings["journal"]["shards"] = shards
            member.settings.write_text(yaml.safe_dump(settings))
            return await forwarder(*words, "-c", member.settings)

        fewer = await run(SHARDS - 1, "run")
        more = await run(SHARDS + 1, "run")
        live = await run(SHARDS + 1, "check", "--live")
        removed = await run(SHARDS - 1, "journal", "create")
        same = await run(SHARDS, "journal", "create")
        await member.start()
        await fleet.balanced()
        shown = await run(SHARDS, "journal", "shards", "--json")
        busy = await run(SHARDS + 1, "journal", "create")
        await member.stop()
        added = await run(SHARDS + 1, "journal", "create")
        await member.start()
        await until(lambda: len([one for one in fleet.owners().values() if one]) == SHARDS + 1)

    assert (2, True) == (
        fewer[0],
        f"shards is 3, but the journal in schema numbers has {SHARDS}" in fewer[1],
    )
    assert (2, True) == (more[0], "run `forwarder journal create`, or set it to 4" in more[1])
    assert "shards is 5, but the journal" in live[1]
    assert (1, True) == (removed[0], "shards cannot be removed" in removed[1]), removed
    assert (0, True) == (same[0], "up to date" in same[1]), same
    assert (1, True) == (busy[0], "Stop all replicas" in busy[1]), busy
    assert (0, True) == (added[0], "1 shard(s) added" in added[1]), added
    shards = yaml.safe_load(shown[1])
    assert list(range(SHARDS)) == [one["shard"] for one in shards]
    assert {f"company-{n}" for n in range(8)} == {
        name for one in shards for name in one["accounts"]
    }
    assert all(one["since"] and one["owner"] and len(one["accounts"]) == 2 for one in shards)
