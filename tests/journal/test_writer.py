"""Transactions: grouped, undone one by one or together, and every caller learns it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from forwarder.core.errors import DamagedError, TransientError
from forwarder.journal.database import SqliteEngine
from forwarder.journal.schema import prepare
from forwarder.journal.storage import Session
from forwarder.journal.writer import Writer
from tests.journal.conftest import Opener


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    engine = SqliteEngine(tmp_path)
    session = engine.writing()
    prepare(session, engine, 0)
    writer = Writer(session, engine, lambda: None)
    yield writer
    await writer.aclose()


def put(key: str) -> Callable[[Session], int]:
    return lambda c: c.execute("INSERT INTO memory VALUES ('t', ?, '1')", (key,)).rowcount


def keys(connection: Session) -> list[str]:
    return [key for (key,) in connection.execute("SELECT key FROM memory ORDER BY key")]


def full(connection: Session) -> None:
    del connection
    raise sqlite3.OperationalError("database or disk is full")


def full_and_undone(connection: Session) -> None:
    """Fail as SQLite may: with the whole transaction gone."""
    connection.execute("ROLLBACK")
    full(connection)


async def test_a_failing_operation_undoes_itself_alone(writer: Writer) -> None:
    def half(connection: Session) -> None:
        put("half")(connection)
        full(connection)

    results = await asyncio.gather(
        writer.run(put("a"), patient=True),
        writer.run(half, patient=True),
        writer.run(put("b"), patient=True),
        return_exceptions=True,
    )

    assert (1, 1) == (results[0], results[2])
    assert isinstance(results[1], TransientError)
    assert ["a", "b"] == await writer.run(keys)


async def test_everybody_hears_of_a_transaction_that_is_gone(writer: Writer) -> None:
    results = await asyncio.gather(
        writer.run(put("a"), patient=True),
        writer.run(full_and_undone, patient=True),
        writer.run(put("b"), patient=True),
        return_exceptions=True,
    )

    assert all(type(result) is TransientError for result in results)
    assert [] == await writer.run(keys)
    assert 1 == await writer.run(put("later"))


async def test_a_full_disk_is_no_damage_and_passes(writer: Writer) -> None:
    pages = await writer.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])

    def fill(connection: Session) -> None:
        connection.execute("INSERT INTO memory VALUES ('t', 'big', ?)", ("x" * 2**20,))

    await writer.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(TransientError, match="full"):
        await writer.run(fill)
    await writer.run(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
    await writer.run(fill)

    assert ["big"] == await writer.run(keys)


async def test_a_mistake_of_the_program_is_not_called_damage(writer: Writer) -> None:
    await writer.run(put("a"))

    with pytest.raises(sqlite3.IntegrityError):
        await writer.run(put("a"))


async def test_after_closing_nothing_is_taken(writer: Writer) -> None:
    await writer.aclose()

    with pytest.raises(TransientError, match="closed"):
        await writer.run(keys)


def test_damage_is_said_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database at all" * 100)

    with pytest.raises(DamagedError, match=r"journal\.db is damaged"):
        SqliteEngine(tmp_path).writing()


async def test_the_trouble_of_a_disk_lasts_until_something_was_written(writer: Writer) -> None:
    assert writer.trouble is None

    with pytest.raises(TransientError):
        await writer.run(full)
    await writer.run(keys)
    lasting = writer.trouble
    await writer.run(put("a"))

    assert "disk is full" in str(lasting)
    assert writer.trouble is None


async def test_a_mistake_of_the_program_is_no_trouble_of_the_disk(writer: Writer) -> None:
    await writer.run(put("a"))
    with pytest.raises(sqlite3.IntegrityError):
        await writer.run(put("a"))

    assert writer.trouble is None


async def test_a_closed_journal_answers_no_question(opened: Opener) -> None:
    """Status may ask at the moment when a replica loses the journal."""
    journal = await opened()
    await journal.aclose()

    with pytest.raises(TransientError, match="closed"):
        await journal.usage()
