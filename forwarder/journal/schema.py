"""What a journal file is: created, recognised, upgraded in one transaction, and checked.

``forwarder run`` and ``forwarder check --journal`` ask the same function, so they agree. Files of
version 1 are recognised by their tables: its schema grew without a new number before the first
release.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

from forwarder.core.contracts import Lost
from forwarder.core.errors import DamagedError, StateError
from forwarder.journal.database import SqliteEngine, SqliteSession
from forwarder.journal.lanes import finish, standings
from forwarder.journal.ledger import REFUSED, REMOVED, Loss, Scope, lose, note_loss, note_passed
from forwarder.journal.storage import (
    LIVE_LANE,
    CorruptError,
    Engine,
    PageRow,
    checksum,
    next_offset,
    to_stored,
    with_checksum,
)

VERSION = 2
_SMALL_TABLES = ("counter", "key_set", "lane", "memory", "progress", "reader", "sink", "stream")
_TABLES = {*_SMALL_TABLES, "dead_letter", "gap", "page", "passed_over"}
_FIRST_TABLES = _TABLES - {"passed_over"}
"""What the oldest file of version 1 has."""
_CHECKED_PAGE = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    {crc}, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream WHERE body IS NOT NULL ORDER BY first_offset DESC
"""
_ONE_PAGE = (
    "SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, "
    "tmax_us, crc, times, hashes, body FROM page JOIN stream ON stream.id = page.stream "
    "WHERE body IS NOT NULL AND first_offset = ?"
)
_NEWEST_PAGES = 4
_NO_CRC = -1
_STRAYS = """
SELECT 'a sink stands behind the last row' FROM progress, counter WHERE prefix > next_offset
UNION ALL SELECT 'a sink has no place' FROM sink
WHERE NOT EXISTS (SELECT 1 FROM progress WHERE sink = sink.id)
"""
_TORN = "SELECT 'the two copies of a value in table ' || name || ' differ' FROM torn LIMIT 1"


class Known(NamedTuple):
    """What a file was recognised as: its version, 0 for an empty file, and its tables' columns."""

    version: int
    columns: dict[str, list[str]]


def recognise(session: SqliteSession, engine: SqliteEngine) -> Known:
    """Return what the file is.

    Raises ``StateError`` for a journal of a newer program, ``DamagedError`` for a file that is no
    journal or lacks tables. Changes nothing.
    """
    (version,) = session.execute("PRAGMA user_version").fetchone()
    found = session.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    tables = {name for (name,) in found.fetchall() if not name.startswith("sqlite_")}
    if version > VERSION:
        raise StateError(
            f"{engine.path} has schema version {version}, this program knows {VERSION}: "
            "it was written by a newer release. Install that release, or restore a backup that "
            "was made before the upgrade"
        )
    # An empty file is a journal that was never begun: a crash between open and first commit.
    if version == 0 and not tables:
        return Known(0, {})
    if version not in {1, VERSION}:
        raise DamagedError(
            f"{engine.path} is not a journal of this program (schema version {version}); nothing "
            "was changed. Point state_dir at another folder, or restore the file from a backup"
        )
    missing = (_TABLES if version == VERSION else _FIRST_TABLES) - tables
    if missing:
        raise CorruptError(f"tables are missing: {', '.join(sorted(missing))}")
    columns = {table: _columns(session, table) for table in tables}
    return Known(version, columns)


def _columns(session: SqliteSession, table: str) -> list[str]:
    return [row[1] for row in session.execute(f"PRAGMA table_info({table})").fetchall()]


def prepare(session: SqliteSession, engine: SqliteEngine, now_us: int) -> None:
    """Create or upgrade the journal in one transaction, then check it quickly.

    Called at every start, before anybody else uses the file. Raises as ``recognise``, and
    ``DamagedError`` for damage; then, and after a crash, the file is what it was.
    """
    with engine.translated():
        known = recognise(session, engine)
        if known.version < VERSION:
            session.begin()
            try:
                if known.version:
                    _upgrade(session, known, now_us)
                else:
                    _create(session)
                session.execute(f"PRAGMA user_version = {VERSION}")
                session.commit()
            except BaseException:
                session.rollback()
                raise
        check_quickly(session)


def require(session: SqliteSession, engine: SqliteEngine) -> None:
    """Raise unless a reading command understands the file as it is."""
    with engine.translated():
        known = recognise(session, engine)
    if known.version != VERSION:
        raise StateError(
            f"{engine.path} has schema version {known.version}; start `forwarder run` once, which "
            f"brings it to version {VERSION}"
        )


def _create(session: SqliteSession) -> None:
    """Run the schema, statement by statement: ``executescript`` would commit what is open."""
    schema = files("forwarder.journal").joinpath("schema.sql").read_text(encoding="utf-8")
    statement = ""
    for line in schema.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            session.execute(statement)
            statement = ""


def _upgrade(session: SqliteSession, known: Known, now_us: int) -> None:
    """Bring a file of version 1 up to date: the small tables are copied, the pages stay."""
    # Pages first: what is copied after them may ask them.
    copied = sorted(known.columns, key=lambda table: table != "page")
    if "crc" in known.columns["page"]:
        copied.remove("page")
    # A view that names a table would make dropping and making it again fail.
    session.execute("DROP VIEW IF EXISTS torn")
    for table in copied:
        session.execute(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM {table}")
        session.execute(f"DROP TABLE {table}")
    _create(session)
    # The schema brings first values for both; the journal has its own.
    session.execute("DELETE FROM counter")
    session.execute("DELETE FROM lane")
    session.connection.create_function("page_crc", 10, _page_crc, deterministic=True)
    for table in copied:
        _copy(session, table, known.columns[table])
        session.execute(f"DROP TABLE temp.old_{table}")
    _note_refusals(session)
    _account_for_gone(session, now_us)


def _copy(session: SqliteSession, table: str, columns: list[str]) -> None:
    """Copy one table; columns that it did not have yet get what they would have had."""
    source = {name: name for name in columns}
    if table == "lane":
        source.setdefault("partial", "CASE WHEN name LIKE 'replay:%' THEN 1 ELSE 0 END")
        # Version 1 told kinds apart by their names and by whose pages they read.
        source["kind"] = (
            "CASE WHEN id = 1 THEN 'live' WHEN pages_of <> id THEN 'replay' "
            "WHEN name LIKE 'replay:%' THEN 'letters' ELSE 'backfill' END"
        )
    elif table == "dead_letter":
        source["row_offset"] = source.pop("offset")
        source["timeless"] = (
            "coalesce((SELECT timeless FROM page WHERE first_offset = "
            "(SELECT max(first_offset) FROM page WHERE first_offset <= offset)), 0)"
        )
    elif table == "page":
        source["crc"] = (
            "page_crc(first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us, "
            "times, hashes)"
        )
    targets, values = ", ".join(source), ", ".join(source.values())
    session.execute(f"INSERT INTO {table} ({targets}) SELECT {values} FROM temp.old_{table}")


def _page_crc(*values: object) -> int:
    *small, times, hashes = values
    return checksum(tuple(map(int, map(str, small))), bytes(times), bytes(hashes))  # type: ignore[call-overload]


def _note_refusals(session: SqliteSession) -> None:
    """Write down in which lane the dead letters were refused, which version 1 did not.

    Without that, a letter that a replay refuses too, and that an operator drops, would leave the
    lane that refused it first, silently: an audit would call the row delivered.
    """
    letters = session.execute(
        "SELECT dead_letter.sink, page.lane, row_offset FROM dead_letter JOIN page "
        "ON first_offset = (SELECT max(first_offset) FROM page WHERE first_offset <= row_offset) "
        "WHERE dead_letter.lane IS NULL AND row_offset < first_offset + count"
    ).fetchall()
    for sink, lane, offset in letters:
        note_passed(session, sink, lane, (offset, offset + 1), REFUSED)


def _account_for_gone(session: SqliteSession, now_us: int) -> None:
    """Write down what sinks can no longer have.

    Version 1 did so only when a sink came back, and only for the live lane.
    """
    for one in standings(session):
        emptied = session.execute(
            "SELECT first_offset, first_offset + count, tmin_us, tmax_us FROM page "
            "WHERE lane = ? AND size = 0 AND first_offset + count > ? AND first_offset < ? "
            "ORDER BY first_offset",
            (one.pages_of, one.progress.prefix, one.end),
        ).fetchall()
        losses = [
            Loss(one.lane, *hole, since_us, until_us)
            for first, end, since_us, until_us in emptied
            for hole in one.outstanding(first, end)
        ]
        lost = Lost(REMOVED, 0, 0, None, "not kept that long")
        lose(session, (one.sink, one.sink_name), losses, lost, now_us)
        done = [(loss.start, loss.end) for loss in losses]
        if one.lane == LIVE_LANE:
            done += _note_removed(session, one.sink, one.sink_name, one.progress.prefix, now_us)
        finish(session, one, done)


def _note_removed(
    session: SqliteSession, sink: int, name: str, prefix: int, now_us: int
) -> list[tuple[int, int]]:
    """Note a loss of unknown size where pages that a sink stood before are gone altogether."""
    first, since_us = session.execute("SELECT min(first_offset), min(tmin_us) FROM page").fetchone()
    # Nobody can say whose rows those were: offsets of all lanes are mixed.
    kept = next_offset(session) if first is None else first
    if kept <= prefix:
        return []
    until_us = now_us if since_us is None else since_us
    lost = Lost(REMOVED, until_us, until_us, None, "not kept that long")
    note_loss(session, Scope(sink=name), lost, now_us)
    note_passed(session, sink, LIVE_LANE, (prefix, kept), REMOVED)
    return [(prefix, kept)]


def check_fully(engine: SqliteEngine) -> Iterator[str]:
    """Yield one sentence for every damage in the whole file; nothing when it is whole.

    Reads beside a running daemon. Raises as ``recognise``.
    """
    session = engine.reading()
    try:
        with engine.translated():
            known = recognise(session, engine)
            for (verdict,) in session.execute("PRAGMA integrity_check"):
                if verdict != "ok":
                    yield verdict
            yield from _strays(session, known)
            crc = "crc" if "crc" in known.columns.get("page", []) else str(_NO_CRC)
            pages = session.execute(_CHECKED_PAGE.format(crc=crc)) if known.version else ()
            for row in pages:
                try:
                    _check_page(PageRow(*row))
                except CorruptError as error:
                    yield str(error)
    finally:
        session.close()


def check_contents(engine: Engine) -> Iterator[str]:
    """Yield one sentence for every damage in what an engine with checksums of its own keeps."""
    session = engine.reading()
    try:
        with engine.translated():
            session.begin_reading()
            yield from (verdict for (verdict,) in session.execute(_STRAYS))
            firsts = session.execute("SELECT first_offset FROM page ORDER BY first_offset")
            session.rollback()
            # A transaction a page: a long one would keep the database from cleaning up.
            for (first,) in firsts.fetchall():
                session.begin_reading()
                found = session.execute(_ONE_PAGE, (first,)).fetchone()
                session.rollback()
                try:
                    if found is not None:
                        _check_page(PageRow(*found))
                except CorruptError as error:
                    yield str(error)
    finally:
        session.close()


def check_quickly(session: SqliteSession) -> None:
    """Check every small table, the counters and the newest pages; raises ``CorruptError``.

    Costs the same for a small and a large journal.
    """
    highest = session.execute(
        "SELECT first_offset + count FROM page ORDER BY first_offset DESC LIMIT 1"
    ).fetchone()
    following = session.execute("SELECT next_offset FROM counter").fetchone()
    if following is None or (highest and highest[0] > following[0]):
        raise CorruptError("the offset counter lies below stored rows")
    for verdict in _small_damages(session):
        raise CorruptError(verdict)
    for row in session.execute(f"{_CHECKED_PAGE.format(crc='crc')} LIMIT {_NEWEST_PAGES}"):
        _check_page(PageRow(*row))


def _small_damages(session: SqliteSession) -> Iterator[str]:
    for table in _SMALL_TABLES:
        for (verdict,) in session.execute(f"PRAGMA integrity_check({table})"):
            if verdict != "ok":
                yield f"{verdict} (table {table})"
    yield from (verdict for (verdict,) in session.execute(_STRAYS))
    yield from (verdict for (verdict,) in session.execute(_TORN))


def _strays(session: SqliteSession, known: Known) -> Iterator[str]:
    if known.version:
        yield from (verdict for (verdict,) in session.execute(_STRAYS))
    torn = session.execute("SELECT 1 FROM sqlite_master WHERE type = 'view' AND name = 'torn'")
    if torn.fetchone():
        yield from (verdict for (verdict,) in session.execute(_TORN))


def _check_page(row: PageRow) -> None:
    # A page of before pages had a checksum of their own still has the body's.
    whole = with_checksum(row) if row.crc == _NO_CRC else row
    try:
        page = to_stored(whole)
        rows = len(page.rows)
    except ValueError as error:
        raise CorruptError(f"the page at {row.first_offset} is no JSON") from error
    if rows != page.count:
        raise CorruptError(f"the page at {row.first_offset} has {rows} rows, not {page.count}")
