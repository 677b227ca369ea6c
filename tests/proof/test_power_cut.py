"""Power cuts: the journal opens clean from whatever a disk may have kept, and tells one story.

SQLite writes a commit to the log beside the file (WAL) and syncs it; later it copies pages into
the file. A disk that loses what was not synced leaves the log cut off anywhere behind the last
sync, its last sectors torn, or the file with some of the copied pages. All three are made here
from the bytes of one run.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import orjson
import pytest

from forwarder.core.contracts import LIVE, Record, StreamKey
from forwarder.core.journal import Keeping
from forwarder.core.log import Addition, Progress, ReaderState
from forwarder.core.telemetry import ignore
from forwarder.core.timing import SystemClock
from forwarder.journal.sqlite import SqliteJournal
from tests.proof.ledger import Ledger

KEY = StreamKey("account", "access_requests")
KEEPING = Keeping(2**30, 3600 * 10**6)
_ROWS = 20
_HEADER = 32
_START_US = 1_760_000_000_000_000


@dataclass(frozen=True, slots=True)
class Told:
    """What was reported to a caller as durable, and how long the log was then."""

    log_bytes: int
    rows: int
    acknowledged: int


def records(number: int) -> list[Record]:
    """Return the rows of page ``number``; each carries its own number."""
    made = []
    for index in range(number * _ROWS, (number + 1) * _ROWS):
        row = orjson.dumps({"number": index, "padding": "x" * 200})
        identity = index.to_bytes(16, "big")
        made.append(Record(row, _START_US + index * 1000, identity, frozenset({"number"})))
    return made


async def history(folder: Path, pages: int) -> list[Told]:
    """Append and acknowledge, with a reader that keeps the log from being copied back."""
    folder.mkdir(mode=0o700)  # noqa: ASYNC240 - nothing else runs
    journal = await SqliteJournal.open(folder, KEEPING, clock=SystemClock(), emit=ignore)
    log, told = journal.stream_log(KEY), []
    queue = await journal.sink_queue("sink", start_at="beginning")
    reader = sqlite3.connect(folder / "journal.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM page").fetchone()
    acknowledged = 0
    for number in range(pages):
        place = ReaderState((number + 1) * _ROWS, position={"rows": (number + 1) * _ROWS})
        await log.append(Addition(LIVE, place, _START_US, records=records(number)))
        if number % 3 == 2:
            acknowledged = (number - 1) * _ROWS
            await queue.acknowledge(LIVE, Progress(acknowledged + 1))
        size = (folder / "journal.db-wal").stat().st_size
        told.append(Told(size, (number + 1) * _ROWS, acknowledged))
    snapshot = folder.with_name("snapshot")
    shutil.copytree(folder, snapshot, ignore=shutil.ignore_patterns("*-shm", "lock"))
    reader.close()
    await journal.aclose()
    return told


async def story(folder: Path) -> tuple[int, int, int]:
    """Open the journal as the daemon does; return rows, the reader's place, what is delivered."""
    journal = await SqliteJournal.open(folder, KEEPING, clock=SystemClock(), emit=ignore)
    try:
        memory = await journal.stream_log(KEY).load()
        queue = await journal.sink_queue("sink", start_at="beginning")
        pages = await queue.read(LIVE, 1, 10**9)
        numbers = [row["number"] for page in pages for row in page.rows]
        following = numbers[-1] + 1 if numbers else 0
        while pages:
            pages = await queue.read(LIVE, pages[-1].end_offset, 10**9)
            numbers += [row["number"] for page in pages for row in page.rows]
            following = numbers[-1] + 1
        assert numbers == list(range(following))
        (lane,) = await queue.lanes()
        reader = memory.readers.get(LIVE)
        return following, reader.covered_until_us if reader else 0, lane.progress.prefix - 1
    finally:
        await journal.aclose()


def cut(snapshot: Path, folder: Path, log: bytes) -> Path:
    """Make a folder as a disk may have kept it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    shutil.copy(snapshot / "journal.db", folder)
    (folder / "journal.db-wal").write_bytes(log)
    return folder


def remains(log: bytes, rng: Random) -> tuple[int, bytes]:
    """Return how much of the log is whole, and the log with what a disk may have behind it."""
    whole = rng.randrange(_HEADER, len(log) + 1)
    torn = rng.choice((b"", bytes(rng.randrange(1, 8192)), rng.randbytes(rng.randrange(1, 8192))))
    return whole, log[:whole] + torn


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many rows are lost that were reported as durable, and what else is wrong."""

    lost: int = 0
    fault: str = ""


async def judge(folder: Path, whole: int, told: Sequence[Told]) -> Verdict:
    """Return what a journal after a cut has lost, and what is wrong with it."""
    promised = [Told(0, 0, 0), *(one for one in told if one.log_bytes <= whole)][-1]
    rows, place, delivered = await story(folder)
    lost = max(0, promised.rows - rows)
    if rows != place:
        return Verdict(lost, f"{rows} rows and a position behind {place}")
    if lost:
        return Verdict(lost, f"{lost} rows lost that were reported durable")
    if delivered < promised.acknowledged:
        return Verdict(lost, "an acknowledgement is lost that was reported durable")
    return Verdict(lost, "more delivered than stored" if delivered > rows else "")


@pytest.mark.timeout(300)
async def test_rows_and_position_agree_after_a_cut_anywhere(
    tmp_path: Path, ledger: Ledger, *, long: bool
) -> None:
    rng, cuts = Random(8), 5_000 if long else 500
    told = await history(tmp_path / "state", pages=120)
    snapshot = tmp_path / "snapshot"
    log = (snapshot / "journal.db-wal").read_bytes()
    assert len(log) > 500_000
    verdicts = []
    for _ in range(cuts):
        whole, left = remains(log, rng)
        verdicts.append(await judge(cut(snapshot, tmp_path / "cut", left), whole, told))

    assert {verdict.fault for verdict in verdicts} == {""}
    ledger.row(
        "Power cut",
        "the write-ahead log ends anywhere, with nothing, zeros or noise behind it",
        times=cuts,
        events=told[-1].rows,
        lost=sum(verdict.lost for verdict in verdicts),
        more="opens clean; rows and position agree; nothing told durable is missing",
    )


@pytest.mark.timeout(300)
async def test_a_cut_while_pages_are_copied_back_harms_nothing(
    tmp_path: Path, ledger: Ledger, *, long: bool
) -> None:
    rng, cuts = Random(9), 1_000 if long else 100
    told = await history(tmp_path / "state", pages=120)
    snapshot, after = tmp_path / "snapshot", tmp_path / "after"
    log, before = ((snapshot / name).read_bytes() for name in ("journal.db-wal", "journal.db"))
    cut(snapshot, after, log)
    with closing(sqlite3.connect(after / "journal.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copied = (after / "journal.db").read_bytes()
    verdicts = []
    for _ in range(cuts):
        folder = cut(snapshot, tmp_path / "cut", log)
        (folder / "journal.db").write_bytes(_half_copied(before, copied, rng))
        verdicts.append(await judge(folder, len(log), told))

    assert {verdict.fault for verdict in verdicts} == {""}
    ledger.row(
        "Power cut",
        "any part of the pages has been copied back into the file",
        times=cuts,
        events=told[-1].rows,
        lost=sum(verdict.lost for verdict in verdicts),
    )


async def test_a_commit_that_was_not_synced_is_found(tmp_path: Path, ledger: Ledger) -> None:
    """Planted: the caller gets its answer before the log has the bytes; the judge must see it."""
    told = await history(tmp_path / "state", pages=30)
    early = [Told(max(0, one.log_bytes - 30_000), one.rows, one.acknowledged) for one in told]
    log = (tmp_path / "snapshot" / "journal.db-wal").read_bytes()
    whole = early[20].log_bytes
    cut(tmp_path / "snapshot", tmp_path / "cut", log[:whole])
    verdict = await judge(tmp_path / "cut", whole, early)

    assert verdict.lost
    ledger.plant("Power cut", "told durable before the log was synced", verdict.fault)


async def test_a_position_without_its_rows_is_found(tmp_path: Path, ledger: Ledger) -> None:
    """Planted: the position of the last page in a file that has lost the page itself."""
    told = await history(tmp_path / "state", pages=10)
    log = (tmp_path / "snapshot" / "journal.db-wal").read_bytes()
    folder = cut(tmp_path / "snapshot", tmp_path / "cut", log)
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM page WHERE first_offset > ?", (told[-2].rows,))
    verdict = await judge(folder, 0, told)

    assert "position behind" in verdict.fault
    ledger.plant("Power cut", "a position stored without its rows", verdict.fault)


def _half_copied(before: bytes, after: bytes, rng: Random, page: int = 4096) -> bytes:
    """Return a file in which some pages are the new ones; a page is never half written twice."""
    made, share = bytearray(after), rng.random()
    made[: len(before)] = before
    for start in range(0, len(after), page):
        if rng.random() < share:
            made[start : start + page] = after[start : start + page]
    return bytes(made)
