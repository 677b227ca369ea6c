"""Commands on any machine with the journal's credentials: the owner carries them out, once."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from forwarder.admin.client import ask
from forwarder.core.errors import FreeShardError, StateError
from forwarder.core.journal import Keeping
from forwarder.core.lease import Lease
from forwarder.core.timing import SystemClock
from forwarder.journal import requests
from forwarder.journal.fleet import SqlFleet
from forwarder.journal.postgres import Database
from forwarder.journal.tables import create
from tests.end_to_end.processes import ACCOUNT, SCRIPT, Forwarder, cloudflare, until
from tests.integration.postgres_opener import PostgresOpener
from tests.integration.postgresql import Postgresql
from tests.integration.test_failover import Replicas
from tests.integration.test_journal_copy import filled, forwarder
from tests.journal.conftest import NOON_US

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


class Site:
    """Replicas on a journal that has a past, and a machine that only has its credentials."""

    def __init__(self, running: Replicas, folder: Path, dsn: str, schema: str) -> None:
        self.running = running
        self.folder = folder
        self.database = Database(lambda: dsn, schema)
        self.settings = folder / "laptop.yaml"
        settings = yaml.safe_load(running.members[0].settings.read_text())
        settings["state_dir"] = str(folder / "laptop")
        self.settings.write_text(yaml.safe_dump(settings))

    async def import_past(self) -> None:
        await filled(self.folder / "past", 1)
        settings = yaml.safe_load(self.settings.read_text())
        del settings["journal"]
        settings["state_dir"] = str(self.folder / "past")
        past = self.folder / "past.yaml"
        past.write_text(yaml.safe_dump(settings))
        status, said = await forwarder("journal", "copy", "-c", past, "--to", self.settings)
        assert 0 == status, said
        # The past is another account's; without one in common it would be another forwarder's.
        with self.database.connect() as connection:
            schema = self.database.schema
            connection.execute(f"INSERT INTO {schema}.account VALUES ('{ACCOUNT}', 0)")

    async def run(self, *words: str) -> tuple[int, str]:
        return await forwarder(*words, "-c", self.settings)

    async def begin(self, *words: str) -> Process:
        return await asyncio.create_subprocess_exec(
            SCRIPT, *words, "-c", self.settings, stdout=PIPE, stderr=STDOUT
        )

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with self.database.connect() as connection:
            schema, tables = self.database.schema, self.database.shard_schema(0)
            connection.execute(f"SET search_path = {tables}, {schema}")
            return connection.execute(sql).fetchall()

    def owner(self) -> Forwarder:
        owner = self.running.owner()
        assert owner is not None
        return owner


@asynccontextmanager
async def site(
    folder: Path, server: Postgresql, schema: str, members: int = 2
) -> AsyncIterator[Site]:
    async with cloudflare("--rate", "5", "--scim-rate", "1", "--history", "1m") as api:
        running = Replicas(folder, api, server.dsn, schema)
        try:
            await running.create()
            found = Site(running, folder, server.dsn, schema)
            await found.import_past()
            del running.members[members:]
            for member in running.members:
                await member.start()
            if members:
                await running.owned()
                await until(lambda: any(member.has_started() for member in running.members))
            yield found
        finally:
            await running.aclose()


async def test_every_operation_is_carried_out_by_the_owner(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "operations") as here:
        listed = yaml.safe_load((await here.run("dead-letters", "list", "--json"))[1])
        letters = [str(letter["id"]) for letter in listed]
        replayed = await here.run("dead-letters", "replay", "--sink", "a", letters[0])
        lane = replayed[1].partition(" in lane ")[2].partition(",")[0]

        said = {"replayed": replayed} | {
            words[0] + words[1]: await here.run(*words)
            for words in (
                ("replay", "--sink", "console", "--since", "1h"),
                ("backfill", "--since", "50s", "--again"),
                ("backfill", "--since=50s", "--again", "--detach"),
                ("backfill", "--cancel", lane),
                ("dead-letters", "drop", "--sink", "a", "--yes"),
                ("cursors", "set", "--account=acme", "--stream=scim_updates", "--to=1h", "--yes"),
                ("sinks", "forget", "gone", "--yes"),
            )
        }  # fmt: skip
        standby = next(one for one in here.running.members if one is not here.owner())
        given = {"sink": "console", "since_us": NOON_US}
        by_socket = await asyncio.to_thread(ask, standby.folder / "state", "replay", given)
        sinks = {name for (name,) in here.query("SELECT name FROM sink")}
        left = here.query("SELECT count(*) FROM dead_letter WHERE lane IS NULL")
        requests_left = here.query("SELECT count(*) FROM request")
        owners = here.query("SELECT epoch FROM lease")

    assert {0} == {status for status, _ in said.values()}, said
    assert "1 event(s) in lane replay:" in said["replayed"][1]
    assert "done, " in said["backfill--since"][1]
    assert "1 event(s) are dead letters again" in said["backfill--cancel"][1]
    assert "acme/scim_updates: covered until" in said["cursorsset"][1]
    assert by_socket["lane"].startswith("replay:")
    assert {"a", "console"} == sinks
    assert [(0,)] == left
    assert [(0,)] == requests_left
    assert [(2,)] == owners  # the copy was the first


async def test_refusals_and_questions_are_the_same_as_on_the_owner(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "refusals", members=1) as here:
        unknown = await here.run("dead-letters", "drop", "--sink", "a", "--yes", "999")
        unasked = await here.run("dead-letters", "drop", "--sink", "a")
        running = await here.run("sinks", "forget", "a", "--yes")
        status = await here.run("status")

    assert (2, True) == (unknown[0], "a has no dead letter 999" in unknown[1]), unknown
    assert (2, True) == (unasked[0], "--yes" in unasked[1]), unasked
    assert 0 == running[0], running
    assert (0, True) == (status[0], "acme" in status[1]), status


async def test_a_command_without_any_replica_does_it_itself(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "nobody", members=0) as here:
        status, said = await here.run("dead-letters", "drop", "--sink", "a", "--yes")

    assert (0, True) == (status, "dead letter(s) of a deleted" in said), said


async def test_requests_at_once_are_carried_out_once_each(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "together") as here:
        words = ("replay", "--sink", "console", "--since", "1h")
        processes = [await here.begin(*words) for _ in range(4)]
        said = [(await process.communicate())[0].decode() for process in processes]
        lanes = here.query("SELECT name FROM lane WHERE kind = 'replay' AND name <> 'replay:2'")

    assert [0] * 4 == [process.returncode for process in processes], said
    named = {text.partition(" in lane ")[2].partition(",")[0] for text in said}
    assert named <= {name for (name,) in lanes}
    assert 4 == len(named)


async def test_a_request_survives_an_owner_that_is_killed_before_it_takes_it(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "before") as here:
        owner = here.owner()
        owner.process.send_signal(signal.SIGSTOP)
        asking = await here.begin("dead-letters", "drop", "--sink", "a", "--yes")
        await until(lambda: here.query("SELECT 1 FROM request"))
        await owner.kill()

        said = (await asking.communicate())[0].decode()

    assert (0, True) == (asking.returncode, "1 dead letter(s) of a deleted" in said), said


async def test_a_request_whose_owner_is_killed_after_it_took_it_is_not_done_again(
    server: Postgresql, tmp_path: Path
) -> None:
    async with site(tmp_path, server, "after") as here:
        owner = here.owner()
        with here.database.connect() as blocking, blocking.transaction():
            blocking.execute(f"LOCK TABLE {here.database.shard_schema(0)}.gap")
            asking = await here.begin("sinks", "forget", "gone", "--yes")
            await until(lambda: here.query("SELECT 1 FROM request WHERE epoch IS NOT NULL"))
            await owner.kill()
        await here.running.owned(by_other_than=owner)

        said = (await asking.communicate())[0].decode()
        sinks = {name for (name,) in here.query("SELECT name FROM sink")}

    assert 1 == asking.returncode
    assert "it is unknown if the request takes effect" in said
    assert "gone" in sinks


@pytest.fixture
def database(server: Postgresql, request: pytest.FixtureRequest) -> Database:
    found = Database(lambda: server.dsn, f"asked_{abs(hash(request.node.name))}")
    create(found)
    return found


def count(database: Database) -> int:
    with database.connect() as connection:
        found = connection.execute(f"SELECT count(*) FROM {database.schema}.request").fetchone()
    assert found is not None
    return int(found[0])


async def test_a_request_that_nobody_takes_is_withdrawn(database: Database) -> None:
    with pytest.raises(StateError, match="no replica took the request within 1 s; it was withdraw"):
        await requests.ask(database, 0, "replay", {}, wait=1, patient=True)

    assert 0 == count(database)


async def test_a_free_shard_is_said_at_once_to_who_can_take_it(database: Database) -> None:
    with pytest.raises(FreeShardError):
        await requests.ask(database, 0, "replay", {}, wait=30, patient=False)

    assert 0 == count(database)


@asynccontextmanager
async def owner(opener: PostgresOpener) -> AsyncIterator[Lease]:
    """Take the shard."""
    fleet = SqlFleet(opener.database, "test", 30)
    lease = fleet.lease(0)
    assert await lease.take()
    journal = await lease.open(Keeping(2**30, 2**40), clock=SystemClock(), emit=lambda _: None)
    yield lease
    await journal.aclose()
    await lease.release()
    await fleet.aclose()


async def test_a_request_is_taken_once_whoever_owns_the_shard(server: Postgresql) -> None:
    opener = PostgresOpener(server.dsn)
    asking = requests.Asking(opener.database, 0)
    asking.make("replay", {"sink": "a"}, 30)
    async with owner(opener) as first:
        taken = [await first.next_request(), await first.next_request()]
        withdrawn = asking.withdraw()
    async with owner(opener) as second:
        taken.append(await second.next_request())
    look = asking.look()
    asking.close()

    assert [("replay", {"sink": "a"}), None, None] == [
        one and (one.command, one.given) for one in taken
    ]
    assert not withdrawn
    assert look.lost


async def test_an_owner_answers_its_own_requests_only(server: Postgresql) -> None:
    opener = PostgresOpener(server.dsn)
    asking, other = requests.Asking(opener.database, 0), requests.Asking(opener.database, 1)
    other.make("replay", {}, 30)
    asking.make("replay", {}, 30)
    async with owner(opener) as journal:
        request = await journal.next_request()
        assert request is not None
        await journal.answer(request, 200, {"events": 1})
        nothing = await journal.next_request()
    look = asking.look()
    asking.close()
    other.close()

    assert '[200,{"events":1}]' == look.answer
    assert nothing is None


async def test_a_request_past_its_time_is_never_taken(server: Postgresql) -> None:
    """Whoever asked may have been killed: nobody would expect it to be done hours later."""
    opener = PostgresOpener(server.dsn)
    asking = requests.Asking(opener.database, 0)
    asking.make("replay", {}, 0)
    async with owner(opener) as journal:
        taken = await journal.next_request()
    asking.close()

    assert taken is None


async def test_a_request_is_withdrawn_if_the_command_is_interrupted(database: Database) -> None:
    asking = asyncio.ensure_future(requests.ask(database, 0, "replay", {}, wait=30, patient=True))
    await until(lambda: count(database) == 1)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert 0 == count(database)
