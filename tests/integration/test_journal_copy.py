"""``forwarder journal copy`` to PostgreSQL and back, with real processes."""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio.subprocess import PIPE, STDOUT
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder.core.errors import StateError
from forwarder.core.journal import Keeping
from forwarder.journal.database import FILE_NAME
from forwarder.journal.fleet import stopped
from forwarder.journal.postgres import Database
from forwarder.journal.sqlite import SqliteJournal
from forwarder.journal.tables import create
from tests.end_to_end.processes import SCRIPT, Forwarder, caught_up, cloudflare, until
from tests.integration.postgresql import Postgresql
from tests.journal.conftest import HOUR_US, KEY, NOON_US, SetClock, addition, records
from tests.journal.test_upgrade import recorded

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


class Places:
    """A folder of settings files that differ in their journals."""

    def __init__(self, folder: Path, dsn: str, url: str = "http://127.0.0.1:1/client/v4") -> None:
        self.forwarder = Forwarder(folder, url)
        self._folder = folder
        self._dsn = dsn

    def file(self, name: str) -> Path:
        return self._write(name, {"state_dir": str(self._folder / name)})

    def database(self, name: str) -> Path:
        journal = {"type": "postgres", "dsn": self._dsn, "schema": name, "lease": "2s"}
        return self._write(name, {"state_dir": str(self._folder / name), "journal": journal})

    def _write(self, name: str, changed: dict[str, Any]) -> Path:
        settings = yaml.safe_load(self.forwarder.settings.read_text()) | changed
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path


async def forwarder(*words: str | Path, kill_after: float | None = None) -> tuple[int, str]:
    """Run a command; return its status and what it said."""
    process = await asyncio.create_subprocess_exec(SCRIPT, *words, stdout=PIPE, stderr=STDOUT)
    if kill_after is not None:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), kill_after)
        with suppress(ProcessLookupError):
            process.kill()
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def copy(source: Path, target: Path, kill_after: float | None = None) -> tuple[int, str]:
    words = ("journal", "copy", "-c", source, "--to", target)
    return await forwarder(*words, kill_after=kill_after)


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as file:
        return list(file.iterdump())


async def filled(folder: Path, pages: int) -> Path:
    """Return a journal's file with something in every table, and that many pages more."""
    path = recorded("1e", folder)
    clock, keeping = SetClock(), Keeping(2**30, HOUR_US)
    journal = await SqliteJournal.open(folder, keeping, clock=clock, emit=lambda _: None)
    log = journal.stream_log(KEY)
    await journal.keep("runtime", "some", {"thing": 1})
    for page in range(pages):
        times = [NOON_US + page * 1000 + n for n in range(500)]
        await log.append(addition(records(*times, first=1000 * page), NOON_US))
    await journal.aclose()
    return path


async def test_a_round_trip_over_two_databases_changes_nothing(
    server: Postgresql, tmp_path: Path
) -> None:
    places = Places(tmp_path, server.dsn)
    before = dump(await filled(tmp_path / "old", 3))
    databases = [places.database("there"), places.database("elsewhere")]
    for database in databases:
        assert 0 == (await forwarder("journal", "create", "-c", database))[0]
    way = [places.file("old"), *databases, places.file("new")]

    said = [await copy(source, target) for source, target in pairwise(way)]

    assert [0, 0, 0] == [status for status, _ in said], said
    assert before == dump(tmp_path / "new" / FILE_NAME)
    assert "the old journal is schema there, marked as moved" in said[1][1]
    status, refused = await forwarder("cursors", "list", "-c", databases[0])
    assert 1 == status
    assert "the journal in schema there was copied elsewhere" in refused


async def test_a_copy_can_be_killed_at_any_moment_and_repeated(
    server: Postgresql, tmp_path: Path
) -> None:
    places = Places(tmp_path, server.dsn)
    path = await filled(tmp_path / "old", 400)
    before = dump(path)
    source, target, back = places.file("old"), places.database("killed"), places.file("back")
    assert 0 == (await forwarder("journal", "create", "-c", target))[0]

    kills = [await _killed(source, target), await _killed(target, back)]

    assert before == dump(tmp_path / "back" / FILE_NAME)
    assert not path.exists()
    print(f"killed {kills[0]} times on the way there, {kills[1]} times back")  # noqa: T201
    assert all(kills)


async def _killed(source: Path, target: Path) -> int:
    """Copy, killed a little later each time; return how often it was killed."""
    kills, after = 0, 0.8
    while True:
        status, said = await copy(source, target, kill_after=after)
        if status == 0:
            return kills
        # The lease of the one that was killed is over after two seconds. A copy that was killed
        # behind its last write is done.
        if "was copied elsewhere" in said or "does not exist" in said:
            return kills
        kills += status == -9
        after += 0.3 * (status == -9)
        assert status == -9 or "has the journal in schema" in said, said


async def test_errors_are_faults_of_the_settings(server: Postgresql, tmp_path: Path) -> None:
    places = Places(tmp_path, server.dsn)
    await filled(tmp_path / "old", 1)
    source, empty, taken = places.file("old"), places.database("missing"), places.database("taken")
    status, said = await copy(source, empty)
    assert (2, True) == (status, "run `forwarder journal create`" in said), said
    assert 0 == (await forwarder("journal", "create", "-c", taken))[0]
    with Database(lambda: server.dsn, "taken").connect() as connection:
        connection.execute("INSERT INTO taken_s00.sink (name, created_us) VALUES ('a', 1)")
    status, said = await copy(source, taken)
    assert (2, True) == (status, "schema taken is not empty" in said), said
    with Database(lambda: server.dsn, "taken").connect() as connection:
        connection.execute("UPDATE taken.fleet SET version = 99")
    status, said = await copy(source, taken)
    assert (2, True) == (status, "a newer release made it" in said), said
    status, said = await copy(source, source)
    assert (2, True) == (status, "both settings name the same journal" in said), said
    status, said = await copy(source, tmp_path / "nowhere.yaml")
    assert (2, True) == (status, "nowhere.yaml" in said), said


def test_a_journal_of_several_shards_is_not_copied_by_halves(server: Postgresql) -> None:
    database = Database(lambda: server.dsn, "several")
    create(database, 2)

    with pytest.raises(StateError, match="has several shards"), stopped(database, "test", 10):
        pass


async def test_the_forwarder_continues_from_the_copy(server: Postgresql, tmp_path: Path) -> None:
    """No row is lost and none is delivered twice, on the way there and back."""
    async with cloudflare("--rate", "20", "--scim-rate", "2", "--history", "1m") as api:
        places = Places(tmp_path, server.dsn, api.url)
        running = places.forwarder
        way = [places.file("first"), places.database("second"), places.file("third")]
        assert 0 == (await forwarder("journal", "create", "-c", way[1]))[0]
        for number, settings in enumerate(way):
            running.settings = settings
            await running.start()
            await until(running.has_started)
            await asyncio.sleep(2)
            await caught_up(api, running)
            assert 0 == await running.stop()
            if number < 2:
                status, said = await copy(settings, way[number + 1])
                assert 0 == status, said
        shown, delivered = await api.shown(), running.delivered()

    assert 0 == (shown - delivered).total()
    assert 0 == (delivered - shown).total()


async def test_a_running_source_is_not_copied(server: Postgresql, tmp_path: Path) -> None:
    async with cloudflare("--rate", "1") as api:
        places = Places(tmp_path, server.dsn, api.url)
        running = places.forwarder
        source, target = places.database("running"), places.file("none")
        assert 0 == (await forwarder("journal", "create", "-c", source))[0]
        running.settings = source
        await running.start()
        await caught_up(api, running)

        status, said = await copy(source, target)

        assert (2, True) == (status, "Stop all its replicas" in said), said
        assert 0 == await running.stop()
