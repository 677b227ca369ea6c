"""Whatever a database refuses, each command says what and what to do, with its exit status."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from forwarder.journal.postgres import Database
from forwarder.journal.tables import create
from tests.end_to_end.processes import SCRIPT, Forwarder, until
from tests.integration.postgresql import Postgresql

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
PASSWORD = "hidden-from-everybody"
RUN, CHECK, CREATE, SHARDS = (
    ("run",), ("check", "--live"), ("journal", "create"), ("journal", "shards"),
)  # fmt: skip
GRANT = """
GRANT USAGE ON SCHEMA {0}, {0}_s00 TO {1};
GRANT ALL ON ALL TABLES IN SCHEMA {0}, {0}_s00 TO {1};
GRANT ALL ON ALL SEQUENCES IN SCHEMA {0}, {0}_s00 TO {1};
"""


def role_of(server: Postgresql, name: str, schema: str) -> str:
    """Make tables and a role that may use them, with a password; return what connects as it."""
    create(Database(lambda: server.dsn, schema))
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(GRANT.format(schema, name))
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
    return server.dsn.replace("user=forwarder", f"user={name} password={PASSWORD}")


class Site:
    """Settings with a journal in a database, and what commands with them say."""

    def __init__(self, folder: Path, dsn: str, schema: str, **journal: Any) -> None:
        # Nobody answers for Cloudflare: the database comes first.
        self.forwarder = Forwarder(folder, "http://127.0.0.1:1/client/v4")
        settings = yaml.safe_load(self.forwarder.settings.read_text())
        settings["journal"] = {"type": "postgres", "dsn": dsn, "schema": schema} | journal
        self.forwarder.settings.write_text(yaml.safe_dump(settings))

    async def said(self, words: tuple[str, ...], wait: float = 30) -> tuple[int | None, str]:
        """Return the exit status of a command, None if it still runs, and all that it said."""
        process = await asyncio.create_subprocess_exec(
            SCRIPT, *words, "-c", self.forwarder.settings,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), wait)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        return process.returncode, said.decode()


async def judged(site: Site, expected: Mapping[Any, tuple[int, str]]) -> None:
    """Hold what commands say against the status and the pattern that are expected."""
    for words, (status, pattern) in expected.items():
        code, said = await site.said(words)
        told = " ".join(said.split())

        assert (words, status) == (words, code), said
        assert re.search(pattern, told), f"{words}: {said}"
        assert "Traceback" not in said
        assert PASSWORD not in said


async def test_tables_of_a_newer_release(server: Postgresql, tmp_path: Path) -> None:
    create(Database(lambda: server.dsn, "newer"))
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("UPDATE newer.fleet SET version = 99")
    site = Site(tmp_path, server.dsn, "newer")

    pattern = "schema newer has version 99.*newer release made it. Install that release"
    await judged(site, dict.fromkeys((RUN, CHECK, CREATE, SHARDS), (1, pattern)))


async def test_a_wrong_password(server: Postgresql, tmp_path: Path) -> None:
    dsn = role_of(server, "guarded", "passwords")
    site = Site(tmp_path, dsn.replace(PASSWORD, f"{PASSWORD}-not"), "passwords")

    pattern = 'password authentication failed for user "guarded".*correct the password'
    await judged(
        site, {RUN: (2, pattern), CHECK: (1, pattern), CREATE: (2, pattern), SHARDS: (2, pattern)}
    )


@pytest.mark.parametrize(
    ("taken", "lacks"),
    [
        ("USAGE ON SCHEMA {0}", "permission denied for schema"),
        ("USAGE ON SCHEMA {0}_s00", "permission denied for schema .*_s00"),
        ("INSERT ON {0}.account", "permission denied for table account|table .*account"),
    ],
)
async def test_a_role_that_may_not_use_the_tables(
    server: Postgresql, tmp_path: Path, taken: str, lacks: str
) -> None:
    name = f"without_{abs(hash(taken))}"
    dsn = role_of(server, name, name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"REVOKE {taken.format(name)} FROM {name}")

    pattern = f"({lacks}).*grant the role USAGE"
    await judged(Site(tmp_path, dsn, name), {RUN: (2, pattern), CHECK: (1, pattern)})


async def test_a_role_that_may_not_create_schemas(server: Postgresql, tmp_path: Path) -> None:
    dsn = role_of(server, "application", "made")
    absent = Site(tmp_path, dsn, "absent")

    pattern = "permission denied for database.*journal create. with a role that may create"
    await judged(absent, {CREATE: (2, pattern)})
    await judged(absent, dict.fromkeys((RUN, CHECK, SHARDS), (1, "has no journal.*journal create")))
    site = Site(tmp_path, dsn, "made")
    await judged(site, {CREATE: (0, "up to date"), SHARDS: (0, "nobody")})


async def test_a_schema_that_is_there_without_a_journal(server: Postgresql, tmp_path: Path) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA half_s00")
    said = 'schema "half_s00" already exists without a journal: drop it, or name another'
    await judged(Site(tmp_path, server.dsn, "half"), {CREATE: (1, said)})


async def test_tables_that_an_administrator_has_locked(server: Postgresql, tmp_path: Path) -> None:
    """Each command waits for some seconds, then says that; the database is not away."""
    create(Database(lambda: server.dsn, "locked"))
    said = "another session of the journal's database has locked what is needed"
    with psycopg.connect(server.dsn) as connection:
        connection.execute("LOCK TABLE locked.lease")
        commands = {CREATE: (1, said), SHARDS: (1, said), CHECK: (1, said)}

        await judged(Site(tmp_path, server.dsn, "locked"), commands)


async def test_a_database_in_recovery_is_waited_for(server: Postgresql, tmp_path: Path) -> None:
    create(Database(lambda: server.dsn, "recovery"))
    with server.standby(server.port) as standby:
        site = Site(tmp_path, standby.dsn, "recovery")
        pattern = "takes no writes: it is in recovery.*target_session_attrs"
        await judged(site, {CHECK: (1, pattern), CREATE: (1, pattern), SHARDS: (0, "nobody")})

        await site.forwarder.start()
        try:
            await until(lambda: "takes no writes" in site.forwarder.errors(), 30)
            assert site.forwarder.process.returncode is None
            standby.promote()
            await until(site.forwarder.has_started, 60)
        finally:
            await site.forwarder.kill()
        assert "Traceback" not in site.forwarder.errors()


async def test_a_database_that_is_away(tmp_path: Path) -> None:
    site = Site(tmp_path, "host=127.0.0.1 port=1 dbname=none", "away")

    pattern = "database is unavailable.*check that it runs"
    await judged(site, dict.fromkeys((CHECK, CREATE, SHARDS), (1, pattern)))
