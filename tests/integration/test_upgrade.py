"""A newer release upgrades the tables of a shared journal when no older replica works any more."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import yaml
from aiohttp import ClientSession

from forwarder.admin.client import RefusedError, ask
from forwarder.core.errors import StateError
from forwarder.core.journal import Keeping
from forwarder.core.lease import Announcement, FleetState, Identity, Member
from forwarder.core.telemetry import ignore
from forwarder.journal.fleet import Leases, SqlFleet
from forwarder.journal.postgres import Database
from forwarder.journal.tables import create
from forwarder.testing.journal_contract import addition, records, verdict
from forwarder.testing.journal_crash import HOUR_US, NOON_US, WallClock
from forwarder.testing.journal_model import KEY
from tests.end_to_end.processes import ACCOUNT, Forwarder, cloudflare, until
from tests.integration import upgrading
from tests.integration.postgresql import Postgresql
from tests.integration.upgrading import VERSION

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
KEEPING = Keeping(2**30, HOUR_US)


@asynccontextmanager
async def replica(database: Database, name: str) -> AsyncIterator[SqlFleet]:
    fleet = SqlFleet(database, name, upgrading.LEASE, Identity("", {ACCOUNT: "token"}))
    fleet.announce(Announcement("hash", None, ["siem"], Member(name)))
    try:
        yield fleet
    finally:
        await fleet.aclose()


def member(folder: Path, api: str, database: Database) -> Forwarder:
    """Return a forwarder that may run as a replica."""
    folder.mkdir()
    made = Forwarder(folder, api)
    settings = yaml.safe_load(made.settings.read_text())
    settings["journal"] = {
        "type": "postgres", "dsn": database.conninfo(), "schema": database.schema, "lease": "2s",
    }  # fmt: skip
    made.settings.write_text(yaml.safe_dump(settings))
    return made


def versions(database: Database) -> tuple[list[int], list[str]]:
    """Return the versions of the fleet's and the shards' tables, and which have new columns."""
    with database.connect() as connection:
        found = connection.execute(
            f"SELECT version FROM {database.home}.fleet UNION ALL "
            f"(SELECT tables FROM {database.home}.fence ORDER BY shard)"
        ).fetchall()
        columns = connection.execute(
            "SELECT table_schema || '.' || table_name FROM information_schema.columns WHERE "
            "table_schema LIKE %s AND column_name IN ('zone', 'note') ORDER BY 1",
            (f"{database.schema}%",),
        ).fetchall()
    return [version for (version,) in found], [column for (column,) in columns]


def columns_of(schema: str, versions: list[int]) -> list[str]:
    """Return the new columns that tables of these versions have."""
    fleet, *shards = (version == VERSION for version in versions)
    found = [f"{schema}.account", f"{schema}.replica"] if fleet else []
    for shard, upgraded in enumerate(shards):
        found += [f"{schema}_s{shard:02}.page", f"{schema}_s{shard:02}.sink"] if upgraded else []
    return found


async def test_a_newer_replica_waits_for_the_older_one_then_upgrades_and_loses_nothing(
    server: Postgresql,
) -> None:
    old, new = (make(server.dsn, "rollout") for make in (upgrading.released, upgrading.newer))
    create(old)
    rows = records(NOON_US, NOON_US + 1)
    async with replica(old, "old") as first, replica(new, "new") as second:
        await first.look()
        lease = first.lease(0)
        assert await lease.take() is not None
        journal = await lease.open(KEEPING, clock=WallClock(), emit=ignore)
        await journal.sink_queue("siem")
        await journal.stream_log(KEY).append(addition(rows[:1]))

        waiting = await second.look()
        with closing(Leases(new, "creating", upgrading.LEASE)) as leases:
            asked = await asyncio.to_thread(leases.upgrade)
        before = versions(old)
        await journal.stream_log(KEY).append(addition(rows[1:]))
        await journal.aclose()
        await lease.release()
        still = await second.look()
        await first.aclose()

        assert FleetState(older=["old"]) == waiting == still
        assert ["old"] == asked
        assert ([1, 1], []) == before
        state = await second.look()
        assert (["new"], [""]) == (
            [one.name for one in state.replicas],
            [one.owner for one in state.shards],
        )
        assert ([VERSION, 1], columns_of("rollout", [VERSION, 1])) == versions(new)
        heir = second.lease(0)
        assert await heir.take() is not None
        assert ([VERSION, VERSION], columns_of("rollout", [VERSION, VERSION])) == versions(new)
        journal = await heir.open(KEEPING, clock=WallClock(), emit=ignore)
        assert {"shown": 2, "waiting": 2} == await verdict(journal, rows)
        await journal.aclose()
        await heir.release()


async def test_an_older_replica_takes_nothing_that_a_newer_one_has_upgraded(
    server: Postgresql,
) -> None:
    old, new = (make(server.dsn, "refused") for make in (upgrading.released, upgrading.newer))
    create(old)
    async with replica(old, "old") as first:
        await first.look()
        await asyncio.sleep(upgrading.LEASE + 0.5)  # it says nothing: it lives no more
        async with replica(new, "new") as second:
            await second.look()
            for refused in (first.look(), first.lease(0).take(), first.check()):
                with pytest.raises(StateError, match="newer release"):
                    await refused

            assert await second.lease(0).take() is not None


async def test_an_upgrade_waits_for_a_take_that_is_under_way(server: Postgresql) -> None:
    old, new = (make(server.dsn, "raced") for make in (upgrading.released, upgrading.newer))
    create(old)
    with (
        old.connect() as connection,
        closing(Leases(old, "command", upgrading.LEASE)) as former,
        closing(Leases(new, "new", upgrading.LEASE)) as later,
    ):
        with connection.transaction():
            connection.execute(f"SELECT FROM {old.home}.lease FOR UPDATE")
            taking = asyncio.create_task(asyncio.to_thread(former.take, 0))
            await asyncio.sleep(0.5)
            joining = asyncio.create_task(asyncio.to_thread(later.join, Identity("", {})))
            await asyncio.sleep(0.5)
        own, older = await taking, await joining

    assert own is not None
    assert ["command"] == older
    assert ([1, 1], []) == versions(old)


def killed_after(database: Database, seconds: float) -> bool:
    """Kill a process that upgrades so many seconds after it began; True if it was done before."""
    words = (sys.executable, "-m", upgrading.__name__, database.conninfo(), database.schema)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"begins" in process.stdout.readline()
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            return False


def settle(database: Database) -> None:
    """Wait until the server has ended what a killed process had begun, and its lease is over."""
    with database.connect() as connection:
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid()"
        )
        owned = f"SELECT count(*) FROM {database.home}.lease WHERE expires_at > clock_timestamp()"
        until = time.monotonic() + 20
        for question in (others, owned):
            while connection.execute(question).fetchone() != (0,):
                assert time.monotonic() < until
                time.sleep(0.05)  # noqa: TID251 - no loop runs here


def test_an_upgrade_that_is_killed_leaves_old_or_new_tables_and_can_be_repeated(
    server: Postgresql,
) -> None:
    seen = Counter[tuple[int, ...]]()
    done, moment = False, 0
    while not done:
        schema = f"killed_{moment}"
        create(upgrading.released(server.dsn, schema), 2)
        database = upgrading.newer(server.dsn, schema)
        done = killed_after(database, 0.1 * moment)
        settle(database)
        found, columns = versions(database)
        seen[tuple(found)] += 1
        assert columns_of(schema, found) == columns
        with closing(Leases(database, "again", upgrading.LEASE)) as leases:
            assert [] == leases.upgrade()
        assert ([VERSION] * 3, columns_of(schema, [VERSION] * 3)) == versions(database)
        moment += 1

    print(f"killed at {moment - 1} moments, the tables were then of versions {dict(seen)}")  # noqa: T201
    assert {tuple([VERSION] * n + [1] * (3 - n)) for n in range(4)} == set(seen)


async def test_the_forwarder_steps_back_from_tables_of_a_newer_release(
    server: Postgresql, tmp_path: Path
) -> None:
    """A replica that was frozen while a newer one upgraded the tables, and one that starts then."""
    old, new = (make(server.dsn, "woken") for make in (upgrading.released, upgrading.newer))
    create(old)
    async with cloudflare("--rate", "5") as api:
        frozen, late = (member(tmp_path / name, api.url, old) for name in ("frozen", "late"))
        await frozen.start()
        try:
            await until(frozen.has_started)
            frozen.process.send_signal(signal.SIGSTOP)
            async with replica(new, "new") as second:
                lease = second.lease(0)

                async def taken() -> bool:
                    return not (await second.look()).older and await lease.take() is not None

                await until(taken, 30)
                frozen.process.send_signal(signal.SIGCONT)
                await late.start()
                status = await asyncio.wait_for(late.process.wait(), 30)
                url = await frozen.admin_url()
                async with ClientSession() as http:

                    async def unready() -> bool:
                        async with http.get(f"{url}/readyz") as answer:
                            return "newer release" in await answer.text()

                    await until(unready, 30)
        finally:
            frozen.process.send_signal(signal.SIGCONT)
            await frozen.kill()

    assert 1 == status
    assert "newer release made it. Install that release" in late.errors()
    assert "Traceback" not in late.errors() + frozen.errors()
    assert "journal_lost" in frozen.errors()


async def test_a_forwarder_of_a_later_release_stands_by_while_an_older_one_works(
    server: Postgresql, tmp_path: Path
) -> None:
    database = upgrading.newer(server.dsn, "rolled")
    create(upgrading.released(server.dsn, "rolled"))
    async with cloudflare("--rate", "5") as api:
        old, new = (member(tmp_path / name, api.url, database) for name in ("old", "new"))
        new.program = (sys.executable, "-m", "tests.integration.later_release")
        try:
            await old.start()
            await until(old.has_started, 30)
            await new.start()
            await until(lambda: "upgrade_waits" in new.errors() or new.process.returncode, 30)
            before = versions(database)
            url = await new.admin_url()
            async with ClientSession() as http, http.get(f"{url}/readyz") as answer:
                ready = answer.status
            with pytest.raises(RefusedError, match="of an older release"):
                await asyncio.to_thread(ask, new.folder / "state", "sink-forget", {"sink": "x"})
            await old.stop()
            await until(new.has_started, 30)
        finally:
            await old.kill()
            await new.kill()

    assert 200 == ready
    assert ([1, 1], []) == before
    assert ([VERSION, VERSION], columns_of("rolled", [VERSION, VERSION])) == versions(database)
    assert "Traceback" not in old.errors() + new.errors()
