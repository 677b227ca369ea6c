"""A damaged journal stops the start, says what and where, and is left as it is."""

import re
import resource
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from forwarder.core.contracts import LIVE
from forwarder.core.errors import DamagedError, LockedError
from forwarder.journal.database import StateLock
from tests.journal.conftest import KEY, NOON_US, Opener, addition, beside, records


async def closed_journal(opened: Opener, tmp_path: Path) -> Path:
    journal = await opened()
    await journal.stream_log(KEY).append(addition(records(*range(NOON_US, NOON_US + 200))))
    await journal.aclose()
    return tmp_path / "state" / "journal.db"


def flip(path: Path, place: int, count: int = 8) -> bytes:
    content = bytearray(path.read_bytes())
    content[place : place + count] = bytes(byte ^ 0xFF for byte in content[place : place + count])
    path.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize("text", [b"SQLite format", b"CREATE TABLE page", b"CREATE TABLE reader"])
async def test_a_flipped_header_or_schema_stops_the_start(
    opened: Opener, tmp_path: Path, text: bytes
) -> None:
    path = await closed_journal(opened, tmp_path)
    # Free room of a page may hold an older copy.
    for copy in re.finditer(text, path.read_bytes()):
        flip(path, copy.start())
    content = path.read_bytes()

    with pytest.raises(DamagedError, match=r"journal\.db"):
        await opened()

    assert content[:4096] == path.read_bytes()[:4096]


async def test_a_flipped_body_stops_the_start_with_its_offset(
    opened: Opener, tmp_path: Path
) -> None:
    path = await closed_journal(opened, tmp_path)
    journal = await opened()
    body = beside(journal, lambda c: c.execute("SELECT body FROM page").fetchone()[0])
    await journal.aclose()
    flip(path, path.read_bytes().index(body[40:200]) + 10, 4)

    with pytest.raises(DamagedError, match=r"journal\.db is damaged.*offset 1 .*backup"):
        await opened()


async def test_a_body_that_breaks_later_is_not_delivered(opened: Opener) -> None:
    journal = await opened()
    queue = await journal.sink_queue("s", start_at="beginning")
    await journal.stream_log(KEY).append(addition(records(NOON_US)))
    beside(journal, lambda c: c.execute("UPDATE page SET body = zeroblob(length(body))"))

    with pytest.raises(DamagedError, match=r"journal\.db"):
        await queue.read(LIVE, 1, 10)


async def test_a_second_process_is_told_who_holds_the_folder(opened: Opener) -> None:
    await opened()

    with pytest.raises(LockedError, match=r"in use by process \d+"):
        await opened()


def test_a_folder_without_a_free_byte_can_be_locked(tmp_path: Path) -> None:
    """What is written there is for people only; a replica of a shared journal has no file."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
    try:
        lock = StateLock(tmp_path, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    with pytest.raises(LockedError, match="in use by another process"):
        StateLock(tmp_path, 0)
    lock.release()


async def test_nobody_else_may_read_the_files(opened: Opener, tmp_path: Path) -> None:
    journal = await opened()
    await journal.stream_log(KEY).append(addition(records(NOON_US)))

    folder = tmp_path / "state"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    assert {0o600} == set(modes.values())


@pytest.mark.parametrize("column", ["times", "hashes"])
async def test_a_page_whose_identities_or_times_differ_is_not_delivered(
    opened: Opener, column: str
) -> None:
    journal = await opened()
    queue = await journal.sink_queue("s", start_at="beginning")
    await journal.stream_log(KEY).append(addition(records(NOON_US)))
    beside(journal, lambda c: c.execute(f"UPDATE page SET {column} = zeroblob(length({column}))"))

    with pytest.raises(
        DamagedError, match=r"journal\.db is damaged.*offset 1 does not match.*backup"
    ):
        await queue.read(LIVE, 1, 10)


async def test_rows_are_not_compared_with_identities_that_are_damaged(opened: Opener) -> None:
    journal = await opened()
    await journal.stream_log(KEY).append(addition(records(NOON_US)))
    beside(
        journal, lambda c: c.execute("UPDATE page SET size = 0, body = NULL, hashes = zeroblob(16)")
    )
    await journal.aclose()
    journal = await opened()

    with pytest.raises(
        DamagedError, match=r"journal\.db is damaged.*offset 1 does not match.*backup"
    ):
        await journal.stream_log(KEY).append(addition(records(NOON_US)))


async def test_a_page_that_only_the_table_knows_is_not_passed_over(
    opened: Opener, tmp_path: Path
) -> None:
    path = await closed_journal(opened, tmp_path)
    with closing(sqlite3.connect(path)) as file:
        (root,) = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'page_by_lane'")
    leaf = bytearray(path.read_bytes())
    leaf[(root[0] - 1) * 4096 + 3 : (root[0] - 1) * 4096 + 5] = bytes(2)  # no cells any more
    path.write_bytes(leaf)
    journal = await opened()
    queue = await journal.sink_queue("s", start_at="beginning")

    with pytest.raises(DamagedError, match=r"the index does not know the stored page at offset 1"):
        await queue.read(LIVE, 1, 10)


async def test_a_position_that_differs_from_its_copy_stops_the_start(
    opened: Opener, tmp_path: Path
) -> None:
    journal = await opened()
    await journal.sink_queue("s", start_at="beginning")
    await journal.aclose()
    path = tmp_path / "state" / "journal.db"
    flip(path, path.read_bytes().index(b"1 1 1[]") + 4, 1)

    with pytest.raises(DamagedError, match=r"the two copies of a value in table progress differ"):
        await opened()
