"""Journals of every older schema open, are brought up to date, and deliver everything."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from forwarder.core.contracts import LIVE, Record
from forwarder.core.errors import DamagedError, StateError
from forwarder.core.identity import Identifier
from forwarder.core.log import DeadLetter, Progress
from forwarder.journal.database import FILE_NAME, SqliteEngine, SqliteSession
from forwarder.journal.lanes import NO_END
from forwarder.journal.schema import VERSION, check_fully, prepare
from forwarder.journal.sqlite import SqliteJournal
from tests.journal.conftest import KEY, NOON_US, Opener, addition

_RECORDED = Path(__file__).with_name("recorded")
SCHEMAS = [
    pytest.param("1a", id="before backfills for some sinks"),
    pytest.param("1b", id="before a round knew how far it has read"),
    pytest.param("1c", id="before checksums and second copies"),
    pytest.param("1d", id="before what was passed over was written down"),
    pytest.param("1e", id="the last of version 1"),
]


def recorded(schema: str, state_dir: Path) -> Path:
    """Put a recorded journal in place.

    Sink ``a`` waits for rows 4 and 5 of six in the live lane (row 3 is dead, row 2 was), for row 2
    in a replay of dead letters, and for three rows of a backfill; ``gone`` for all of that but the
    dead letter, and once more for the live rows in a replay. A gap is open, a round was read.
    """
    state_dir.mkdir(exist_ok=True)
    path = state_dir / FILE_NAME
    path.write_bytes(gzip.decompress((_RECORDED / f"journal-{schema}.db.gz").read_bytes()))
    return path


def old_rows(count: int) -> list[Record]:
    """Return the rows of the recorded live lane."""
    rows = [{"n": n} for n in range(count)]
    identities = Identifier(KEY.account_id, KEY.stream).identities(rows)
    return [
        Record(orjson.dumps(row), NOON_US + row["n"], identity, frozenset(row))
        for row, identity in zip(rows, identities, strict=True)
    ]


async def delivered(journal: SqliteJournal, sink: str) -> dict[str, list[Any]]:
    """Deliver all that waits for a sink; return the rows by lane."""
    queue = await journal.sink_queue(sink)
    found: dict[str, list[Any]] = {}
    for lane in await queue.lanes():
        pages = await queue.read(lane.name, lane.progress.prefix, 1000)
        found[lane.name] = [
            row.get("n", row.get("event"))
            for page in pages
            for offset, row in zip(
                range(page.first_offset, page.end_offset), page.rows, strict=True
            )
            if not lane.progress.holds(offset) and offset < (lane.end_offset or NO_END)
        ]
        read = pages[-1].end_offset if pages else lane.progress.prefix
        await queue.acknowledge(lane.name, Progress(lane.end_offset or read))
    return found


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_everything_that_waited_arrives(opened: Opener, tmp_path: Path, schema: str) -> None:
    recorded(schema, tmp_path / "state")
    journal = await opened()

    of_a, of_gone = await delivered(journal, "a"), await delivered(journal, "gone")

    backfilled = {"backfill:1": [10, 11, 12]}
    assert {LIVE: [4, 5, "gap_opened"], "replay:1": [1], **backfilled} == of_a
    live = [0, 1, 2, 3, 4, 5]
    assert {LIVE: [*live, "gap_opened"], **backfilled, "replay:2": live} == of_gone
    assert ["again refused"] == [letter.reason for letter in await journal.letters()]
    assert [("instant_unreadable", None)] == [(g.reason, g.closed_us) for g in await journal.gaps()]


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_a_letter_that_a_replay_refuses_too_and_that_is_dropped_was_not_delivered(
    opened: Opener, tmp_path: Path, schema: str
) -> None:
    recorded(schema, tmp_path / "state")
    journal = await opened()
    (refused,) = await journal.letters(sink="a")
    row = orjson.loads(refused.row)["n"]

    await journal.replay("replay:more", "a", NOON_US - 86_400_000_000)
    queue = await journal.sink_queue("a")
    (lane,) = [one for one in await queue.lanes() if one.name == "replay:more"]
    letter = DeadLetter(refused.offset, "refused")
    await queue.acknowledge("replay:more", Progress(lane.end_offset or 0), [letter])
    await journal.drop_letters("a", None)

    verdicts = await journal.judge(KEY, old_rows(6)[row : row + 1], {}, ["a"])
    assert verdicts["a"].delivered == 0


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_rows_positions_and_memories_are_known_after_the_upgrade(
    opened: Opener, tmp_path: Path, schema: str
) -> None:
    recorded(schema, tmp_path / "state")
    log = (await opened()).stream_log(KEY)

    memory = await log.load()
    again = await log.append(addition(old_rows(6)))

    assert {LIVE: NOON_US + 10, "backfill:1": NOON_US} == {
        name: state.covered_until_us for name, state in memory.readers.items()
    }
    assert [frozenset({"n"})] == [one.keys for one in memory.key_sets]
    assert {"x": 1} == await log.recall("group")
    assert [] == list(again.new)


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_check_and_run_agree_on_an_older_journal(
    opened: Opener, tmp_path: Path, schema: str
) -> None:
    recorded(schema, tmp_path / "state")
    engine = SqliteEngine(tmp_path / "state")

    before = list(check_fully(engine))
    await opened()

    assert [] == before
    assert [] == list(check_fully(engine))


class DyingSession(SqliteSession):
    """Fails at the n-th statement, as a crash would."""

    def __init__(self, connection: sqlite3.Connection, left: int) -> None:
        super().__init__(connection)
        self._left = left
        self.execute = self._counted

    def _counted(self, sql: str, values: Any = ()) -> Any:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt
        return self.connection.execute(sql, values)

    def commit(self) -> None:
        self._counted("COMMIT")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_crash_at_any_statement_of_the_upgrade_changes_nothing(
    tmp_path: Path, schema: str
) -> None:
    path = recorded(schema, tmp_path / "state")
    engine = SqliteEngine(path.parent)
    original, crashes, version = dump(path), 0, 1
    while version == 1:
        crashes += 1
        whole = engine.writing()
        session = DyingSession(whole.connection, crashes)
        try:
            prepare(session, engine, NOON_US)
        except KeyboardInterrupt:
            session.close()
            found = dump(path)
            version = found[0]
            assert version == VERSION or found == original
        else:
            session.close()
            version = dump(path)[0]

    assert crashes > 20


def dump(path: Path) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(path)) as file:
        (version,) = file.execute("PRAGMA user_version").fetchone()
        return int(version), list(file.iterdump())


async def test_a_journal_from_the_future_is_refused_with_what_to_do(
    opened: Opener, tmp_path: Path
) -> None:
    await (await opened()).aclose()
    path = tmp_path / "state" / FILE_NAME
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = dump(path)

    newer = f"schema version {VERSION + 1}.*Install that release, or restore a backup"
    with pytest.raises(StateError, match=newer):
        await opened()
    with pytest.raises(StateError, match=newer):
        list(check_fully(SqliteEngine(path.parent)))
    assert before == dump(path)


@pytest.mark.parametrize("schema", ["1a", "1e", "2"])
async def test_check_and_run_agree_on_a_journal_that_lacks_a_table(
    opened: Opener, tmp_path: Path, schema: str
) -> None:
    if schema == "2":
        await (await opened()).aclose()
    else:
        recorded(schema, tmp_path / "state")
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as file:
        file.execute("DROP VIEW IF EXISTS torn")
        file.execute("DROP TABLE reader")

    with pytest.raises(DamagedError, match="tables are missing: reader"):
        await opened()
    with pytest.raises(DamagedError, match="tables are missing: reader"):
        list(check_fully(SqliteEngine(tmp_path / "state")))


async def test_a_sink_that_was_gone_before_the_upgrade_gets_a_gap_for_what_went(
    opened: Opener, tmp_path: Path
) -> None:
    """Version 1 emptied rows that an absent sink waited for, and said so only when it came back."""
    path = recorded("1e", tmp_path / "state")
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE page SET size = 0, body = NULL WHERE first_offset IN (1, 8)")
        file.execute("UPDATE progress SET prefix = 11 WHERE sink = 1")
    journal = await opened()

    lost = {gap.scope: gap.rows for gap in await journal.gaps() if gap.reason == "sink_was_removed"}
    assert {"sink:gone": 6 + 3 + 6} == lost
    told = ["gap_opened", "gap_opened", "gap_closed"]
    assert {LIVE: told, "backfill:1": []} == await delivered(journal, "gone")


def test_every_recorded_journal_is_tested() -> None:
    names = {f"journal-{schema.values[0]}.db.gz" for schema in SCHEMAS}

    assert names == {path.name for path in _RECORDED.iterdir()}
