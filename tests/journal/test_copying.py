"""A copy is equal to its source, and at no moment do two journals look usable."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from forwarder.core.errors import DamagedError, LockedError, StateError
from forwarder.core.journal import Keeping
from forwarder.journal import copying
from forwarder.journal.copying import TABLES, Copied, copy
from forwarder.journal.database import FILE_NAME, SqliteEngine
from forwarder.journal.sqlite import SqliteJournal, StoppedFile, stopped
from tests.journal.conftest import NOON_US, SetClock
from tests.journal.test_upgrade import recorded

AT = "20260922T120000Z"


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """Return a folder with a journal that has something in every table but ``memory``."""
    folder = tmp_path / "old"
    recorded("1e", folder)
    clock = SetClock()
    journal = await SqliteJournal.open(
        folder, Keeping(2**30, 2**40), clock=clock, emit=lambda _: None
    )
    await journal.keep("runtime", "some", {"thing": 1})
    await journal.aclose()
    return folder


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as file:
        return list(file.iterdump())


def copied(source: Path, target: Path) -> Copied:
    with stopped(source, NOON_US, new=False) as old, stopped(target, NOON_US, new=True) as new:
        return copy(old, new, AT)


def test_a_copy_is_equal_and_the_source_is_put_aside(source: Path, tmp_path: Path) -> None:
    before = dump(source / FILE_NAME)

    found = copied(source, tmp_path / "new")

    assert f"{source / FILE_NAME}.moved-{AT}" == found.aside
    assert before == dump(tmp_path / "new" / FILE_NAME) == dump(Path(found.aside))
    assert ["journal.db.moved-" + AT, "lock"] == sorted(path.name for path in source.iterdir())


@pytest.mark.parametrize("engine", ["schema.sql", "postgres.sql"])
def test_every_column_of_the_schema_is_copied(engine: str) -> None:
    """Columns that SQLite generates are made again by the target."""
    sql = files("forwarder.journal").joinpath(engine).read_text()
    sql = re.sub(r"--.*", "", sql)
    schema = {
        name: re.findall(
            r"^    (\w+) (?!TEXT AS)(?:BIGINT|INTEGER|TEXT|BLOB|BYTEA)", body, re.MULTILINE
        )
        for name, body in re.findall(
            r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \((.*?)\n\)", sql, re.DOTALL
        )
    }

    assert schema == {table.name: list(table.columns) for table in TABLES}


def test_the_source_has_something_in_every_table(source: Path) -> None:
    with stopped(source, NOON_US, new=False) as old:
        found = copying.contents(old)

    assert [] == [name for name, (count, _) in found.items() if not count]


def test_nothing_is_copied_over_another_journal(source: Path, tmp_path: Path) -> None:
    other = recorded("1e", tmp_path / "new")
    before = dump(source / FILE_NAME)

    with pytest.raises(StateError, match="is not empty"):
        copied(source, tmp_path / "new")

    assert before == dump(source / FILE_NAME)
    assert other.exists()


async def test_a_journal_in_use_is_not_copied(source: Path, tmp_path: Path) -> None:
    clock = SetClock()
    running = await SqliteJournal.open(
        source, Keeping(2**30, 2**40), clock=clock, emit=lambda _: None
    )
    with pytest.raises(LockedError, match="is in use by process"):
        copied(source, tmp_path / "new")
    await running.aclose()


def test_a_source_that_does_not_exist_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="does not exist"):
        copied(tmp_path / "none", tmp_path / "new")

    assert [] == list(tmp_path.iterdir())


def test_an_older_schema_is_not_copied(tmp_path: Path) -> None:
    recorded("1e", tmp_path / "old")

    with pytest.raises(StateError, match="start `forwarder run` once"):
        copied(tmp_path / "old", tmp_path / "new")


@contextmanager
def opened(source: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(source / FILE_NAME)) as file, file:
        yield file


def test_damage_is_not_copied(source: Path, tmp_path: Path) -> None:
    with opened(source) as file:
        body = file.execute("SELECT body FROM page WHERE body IS NOT NULL LIMIT 1").fetchone()[0]
        broken = body[:-1] + bytes([body[-1] ^ 1])
        file.execute("UPDATE page SET body = ? WHERE body = ?", (broken, body))

    with pytest.raises(DamagedError, match="does not match its checksum"):
        copied(source, tmp_path / "new")

    assert (source / FILE_NAME).exists()
    with stopped(tmp_path / "new", NOON_US, new=True) as new:
        assert 2 == sum(count for count, _ in copying.contents(new).values())


def test_what_postgresql_cannot_store_is_replaced(source: Path, tmp_path: Path) -> None:
    with opened(source) as file:
        file.execute("UPDATE dead_letter SET reason = 'a' || char(0) || 'b'")

    copied(source, tmp_path / "new")

    with opened(tmp_path / "new") as file:
        assert {("a\ufffdb",)} == set(file.execute("SELECT reason FROM dead_letter"))


async def test_a_folder_whose_journal_has_moved_begins_no_new_one(
    source: Path, tmp_path: Path
) -> None:
    copied(source, tmp_path / "new")

    with pytest.raises(StateError, match="was copied elsewhere"):
        await SqliteJournal.open(
            source, Keeping(2**30, 2**40), clock=SetClock(), emit=lambda _: None
        )

    # But a journal can be copied back into it.
    back = copied(tmp_path / "new", source)
    assert dump(Path(back.aside)) == dump(source / FILE_NAME)


class KilledError(Exception):
    """What a kill looks like to the file: nothing happens any more."""


class Dying(StoppedFile):
    """Dies before one of its calls."""

    def __init__(self, held: StoppedFile, before: str) -> None:
        self.name, self.engine, self.session = held.name, held.engine, held.session
        self._before = before

    def stay(self) -> None:
        if self._before == "stay":
            raise KilledError

    def settle(self) -> None:
        if self._before == "settle":
            raise KilledError
        super().settle()

    def put_aside(self, at: str) -> str:
        if self._before == "put_aside":
            raise KilledError
        return super().put_aside(at)


@pytest.mark.parametrize("before", ["stay", "settle", "put_aside"])
def test_a_copy_that_was_killed_is_repeated(source: Path, tmp_path: Path, before: str) -> None:
    expected = dump(source / FILE_NAME)
    with (
        pytest.raises(KilledError),
        stopped(source, NOON_US, new=False) as old,
        stopped(tmp_path / "new", NOON_US, new=True) as new,
    ):
        copy(Dying(old, before), Dying(new, before), AT)
    assert (source / FILE_NAME).exists()

    copied(source, tmp_path / "new")

    assert expected == dump(tmp_path / "new" / FILE_NAME)
    assert not SqliteEngine(source).path.exists()
