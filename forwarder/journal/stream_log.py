"""The log of one stream; implements ``core.log.StreamLog``."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import orjson

from forwarder.core.contracts import LIVE, Lost, StreamKey, Window
from forwarder.core.errors import StateError
from forwarder.core.log import Addition, Appended, KeySet, ReaderState, StreamMemory
from forwarder.core.source_contract import Records
from forwarder.core.telemetry import Emit, TelemetryEvent
from forwarder.journal.database import Writer
from forwarder.journal.ledger import Scope, append_own, close_gaps, note_loss
from forwarder.journal.reader import FreshPages, LaneEnds
from forwarder.journal.storage import (
    HOUR_US,
    CorruptError,
    PageRow,
    Place,
    buckets,
    fresh_page,
    insert_page,
    keep,
    lane_id,
    next_offset,
    recall,
    split_hashes,
    stream_id,
)

_CACHED_PAGES = 64
_WITHOUT_BODY = """
SELECT '', '', first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, x'' FROM page WHERE first_offset = ?
"""
_TIMELESS = """
SELECT first_offset FROM page WHERE stream = :stream AND timeless = 1
AND (lane = :lane OR lane IN (SELECT id FROM lane WHERE partial = 0))
"""
_TOUCHING = """
SELECT first_offset FROM page WHERE stream = :stream AND timeless = 0
AND tmax_us BETWEEN :low AND :high + :hour AND tmin_us <= :high
AND (lane = :lane OR lane IN (SELECT id FROM lane WHERE partial = 0))
"""


class SeenPages:
    """Identities of recently opened pages, by first offset; lives in the writer's thread.

    Pages never change, so an entry is never stale; after a rollback offsets may be used anew and
    the whole cache is dropped.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._pages: OrderedDict[int, frozenset[bytes]] = OrderedDict()

    def clear(self) -> None:
        """Forget everything; called when a transaction was undone."""
        self._pages.clear()

    def identities(self, connection: sqlite3.Connection, first_offset: int) -> frozenset[bytes]:
        """Return the identities of one page."""
        known = self._pages.get(first_offset)
        if known is None:
            found = connection.execute(_WITHOUT_BODY, (first_offset,)).fetchone()
            if found is None:
                raise CorruptError(f"the page at offset {first_offset} is in an index only")
            row = PageRow(*found)
            row.verify()
            known = self.add(first_offset, split_hashes(row.hashes))
        self._pages.move_to_end(first_offset)
        return known

    def add(self, first_offset: int, identities: Iterable[bytes]) -> frozenset[bytes]:
        """Remember a page, as one that was just stored: the next answer begins with its rows."""
        known = self._pages[first_offset] = frozenset(identities)
        if len(self._pages) > _CACHED_PAGES:
            self._pages.popitem(last=False)
        return known

    def touching(
        self, connection: sqlite3.Connection, place: Place, bounds: tuple[int, int] | None
    ) -> list[frozenset[bytes]]:
        """Return the identities of all pages that touch a range of times; None: timeless ones.

        Pages of lanes that not every sink reads count only for such a lane itself.
        """
        among = {"stream": place.stream, "lane": place.lane}
        if bounds is None:
            found = connection.execute(_TIMELESS, among)
        else:
            low, high = bounds
            found = connection.execute(
                _TOUCHING, {**among, "low": low, "high": high, "hour": HOUR_US}
            )
        return [self.identities(connection, first) for (first,) in found.fetchall()]


def unseen(
    connection: sqlite3.Connection,
    place: Place,
    records: Records,
    aliases: Mapping[int, Sequence[bytes]],
    seen: SeenPages,
) -> tuple[list[int], int]:
    """Return the indices of records that are stored under none of their identities.

    The second number counts those found only under an alias (reshaped rows).
    """
    new: list[int] = []
    reshaped = 0
    for bucket, indices in buckets(records.times_us, range(len(records))).items():
        bounds = None if bucket is None else _bounds(records.times_us, indices)
        stored = seen.touching(connection, place, bounds)
        if not aliases:
            new += _not_in(stored, records.identities, indices)
            continue
        known: set[bytes] = set().union(*stored)
        for index in indices:
            identity = records.identities[index]
            if identity in known:
                continue
            if not known.isdisjoint(aliases.get(index, ())):
                reshaped += 1
                continue
            known.add(identity)
            new.append(index)
    return sorted(new), reshaped


def _not_in(
    stored: Iterable[frozenset[bytes]], identities: Sequence[bytes], indices: Sequence[int]
) -> Sequence[int]:
    """Return the indices of identities that no stored page has; of equal ones the first."""
    asked = [identities[index] for index in indices]
    left = set(asked).difference(*stored)
    if len(left) == len(asked):
        return indices
    fresh = []
    for index, identity in zip(indices, asked, strict=True):
        if identity in left:
            left.remove(identity)
            fresh.append(index)
    return fresh


def _bounds(times_us: Sequence[int | None], indices: Sequence[int]) -> tuple[int, int]:
    times = [times_us[index] or 0 for index in indices]
    return min(times), max(times)


def store(
    connection: sqlite3.Connection,
    place: Place,
    records: Records,
    new: Sequence[int],
    seen: SeenPages,
) -> list[tuple[int, Records]]:
    """Store the records at ``new`` as one page an hour; return each with its first offset."""
    stored = []
    for indices in buckets(records.times_us, new).values():
        part = records.part(indices)
        first, _ = insert_page(connection, place, part)
        seen.add(first, part.identities)
        stored.append((first, part))
    return stored


def save_reader(connection: sqlite3.Connection, stream: int, name: str, state: ReaderState) -> None:
    """Store how far a reader has come, in the transaction of the rows it read."""
    window = state.window
    connection.execute(
        "INSERT OR REPLACE INTO reader VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            stream,
            name,
            state.covered_until_us,
            window.since_us if window else None,
            window.until_us if window else None,
            None if state.position is None else orjson.dumps(state.position).decode(),
            state.rows,
            state.reached_us,
        ),
    )


def is_overtaken(connection: sqlite3.Connection, stream: int, addition: Addition) -> bool:
    """Say whether rows may be stored under more keys than the page has them with.

    Only earlier, smaller key sets are looked up. So a page that was asked for before a larger one
    appeared must not be stored after it.
    """
    if addition.known is None or addition.again:
        return False
    (count,) = connection.execute(
        "SELECT count(*) FROM key_set WHERE stream = ?", (stream,)
    ).fetchone()
    if count == len(addition.known):
        return False
    known = {one.keys for one in addition.known}
    appeared = [one.keys for one in load_key_sets(connection, stream) if one.keys not in known]
    held = set(Records.of(addition.records).keys)
    return any(keys < larger for keys in held for larger in appeared)


def remember_keys(
    connection: sqlite3.Connection, stream: int, new_keys: Sequence[frozenset[str]]
) -> None:
    """Note key sets seen for the first time, and how far the stream had come before them."""
    if not new_keys:
        return
    (horizon,) = connection.execute(
        "SELECT max(tmax_us) FROM page WHERE stream = ?", (stream,)
    ).fetchone()
    (offset,) = connection.execute("SELECT next_offset FROM counter").fetchone()
    for keys in new_keys:
        connection.execute(
            "INSERT OR IGNORE INTO key_set VALUES (?, ?, ?, ?)",
            (stream, orjson.dumps(sorted(keys)).decode(), horizon or 0, offset),
        )


def load_key_sets(connection: sqlite3.Connection, stream: int) -> list[KeySet]:
    """Return the key sets of a stream in order of appearance."""
    found = connection.execute(
        "SELECT keys, horizon_us, first_offset FROM key_set WHERE stream = ? "
        "ORDER BY first_offset, keys",
        (stream,),
    )
    return [
        KeySet(frozenset(orjson.loads(keys)), horizon, offset) for keys, horizon, offset in found
    ]


MOVED = "cursor_moved"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader of a stream is; ``reading_until_us`` when a round is under way."""

    account_id: str
    stream: str
    reader: str
    covered_until_us: int
    reading_until_us: int | None
    rows: int


def list_cursors(connection: sqlite3.Connection) -> list[Cursor]:
    """Return every reader of every stream, the younger age first."""
    found = connection.execute(
        "SELECT account_id, stream.name, reader.name, covered_until_us, until_us, rows "
        "FROM reader JOIN stream ON stream.id = reader.stream ORDER BY 1, 2, length(reader.name), 3"
    )
    return [Cursor(*row) for row in found]


def move_cursor(connection: sqlite3.Connection, key: StreamKey, to_us: int, now_us: int) -> Cursor:
    """Set the live position of a stream; rows that are jumped over go to the gap ledger.

    Moving it back is harmless: what was seen is not delivered again. Raises ``StateError`` for a
    stream that the journal does not know. The daemon must not be reading the stream meanwhile.
    """
    found = connection.execute(
        "SELECT stream.id, covered_until_us FROM reader JOIN stream ON stream.id = reader.stream "
        "WHERE account_id = ? AND stream.name = ? AND reader.name = ?",
        (key.account_id, key.stream, LIVE),
    ).fetchone()
    if found is None:
        raise StateError(f"the journal knows no stream {key}; `forwarder cursors list` shows all")
    stream, from_us = found
    connection.execute(
        "UPDATE reader SET covered_until_us = ?, since_us = NULL, until_us = NULL, "
        "position = NULL, reached_us = NULL WHERE stream = ? AND name = ?",
        (to_us, stream, LIVE),
    )
    connection.execute(
        "UPDATE reader SET covered_until_us = max(covered_until_us, ?), since_us = NULL, "
        "until_us = NULL, position = NULL, reached_us = NULL "
        "WHERE stream = ? AND name LIKE 'reconcile:%' AND ?",
        (to_us, stream, to_us > from_us),
    )
    if to_us > from_us:
        scope = Scope(account_id=key.account_id, stream=key.stream)
        lost = Lost(MOVED, from_us, to_us, None, "an operator moved the cursor forward")
        note_loss(connection, scope, lost, now_us)
        close_gaps(connection, scope, now_us, [MOVED])
    return Cursor(key.account_id, key.stream, LIVE, to_us, None, 0)


class _Stored(NamedTuple):
    """What the writer's thread hands back: the answer, the lanes' ends, what to report."""

    appended: Appended
    end_offset: int
    events: list[TelemetryEvent]
    pages: Sequence[tuple[int, Records]] = ()


class SqliteStreamLog:
    """Rows and reader positions of one stream of one account."""

    def __init__(
        self,
        key: StreamKey,
        writer: Writer,
        seen: SeenPages,
        ends: LaneEnds,
        emit: Emit,
        fresh: FreshPages | None = None,
    ) -> None:
        """Made by ``Journal.stream_log``; ``seen`` belongs to the writer's thread."""
        self._fresh = fresh or FreshPages()
        self._key = key
        self._scope = Scope(account_id=key.account_id, stream=key.stream)
        self._writer = writer
        self._seen = seen
        self._ends = ends
        self._emit = emit
        self._key_sets: list[KeySet] = []

    async def load(self) -> StreamMemory:
        """Return the readers and key sets."""
        readers = await self._writer.run(self._load)
        return StreamMemory(readers, self._key_sets)

    async def append(self, addition: Addition) -> Appended:
        """Store what is new, the reader's state and the losses, in one transaction."""
        stored = await self._writer.run(lambda connection: self._append(connection, addition))
        self._key_sets = list(stored.appended.key_sets)
        for first, rows in stored.pages:
            page = partial(fresh_page, self._key, addition.seen_us, first, rows)
            self._fresh.offer(first, page)
        self._ends.lane_grew(addition.lane, stored.end_offset)
        self._ends.lane_grew(LIVE, stored.end_offset)
        for event in stored.events:
            self._emit(event)
        return stored.appended

    async def forget(self, reader: str) -> None:
        """Remove a reader whose work is done."""
        await self._writer.run(
            lambda connection: connection.execute(
                "DELETE FROM reader WHERE stream = ? AND name = ?",
                (self._id(connection), reader),
            )
        )

    async def recall(self, key: str) -> Any | None:
        """Return what was kept under ``key``, or None."""
        return await self._writer.run(lambda connection: recall(connection, str(self._key), key))

    async def keep(self, key: str, value: Any) -> None:
        """Keep a small JSON value under ``key``."""
        await self._writer.run(lambda connection: keep(connection, str(self._key), key, value))

    def _id(self, connection: sqlite3.Connection) -> int:
        return stream_id(connection, self._key.account_id, self._key.stream)

    def _load(self, connection: sqlite3.Connection) -> dict[str, ReaderState]:
        number = self._id(connection)
        self._key_sets = load_key_sets(connection, number)
        found = connection.execute(
            "SELECT name, covered_until_us, since_us, until_us, position, rows, reached_us "
            "FROM reader WHERE stream = ?",
            (number,),
        )
        return {
            name: ReaderState(
                covered_until_us=covered,
                window=None if since is None else Window(since, until),
                position=None if position is None else orjson.loads(position),
                rows=rows,
                reached_us=reached,
            )
            for name, covered, since, until, position, rows, reached in found
        }

    def _append(self, connection: sqlite3.Connection, addition: Addition) -> _Stored:
        number = self._id(connection)
        if is_overtaken(connection, number, addition):
            sets = load_key_sets(connection, number)
            refused = Appended((), 0, addition.state.rows, sets, overtaken=True)
            return _Stored(refused, next_offset(connection), [])
        place = Place(number, lane_id(connection, addition.lane), addition.seen_us)
        records = Records.of(addition.records)
        if addition.again:
            new, reshaped = list(range(len(records))), 0
        else:
            new, reshaped = unseen(connection, place, records, addition.aliases, self._seen)
        remember_keys(connection, number, addition.new_keys)
        pages = store(connection, place, records, new, self._seen)
        rows = addition.state.rows + len(new)
        told = addition.tell(rows)
        state = replace(addition.state, rows=0 if told else rows)
        save_reader(connection, number, addition.reader, state)
        events = self._account(connection, addition)
        append_own(connection, self._key.account_id, told, addition.seen_us)
        sets = load_key_sets(connection, number) if addition.new_keys else self._key_sets
        return _Stored(
            Appended(new, reshaped, state.rows, sets), next_offset(connection), events, pages
        )

    def _account(self, connection: sqlite3.Connection, addition: Addition) -> list[TelemetryEvent]:
        """Write losses into the ledger; close its records when a round ended without one."""
        opened = [
            note_loss(connection, self._scope, lost, addition.seen_us) for lost in addition.lost
        ]
        events: list[TelemetryEvent] = [gap for gap in opened if gap is not None]
        if addition.settled and not addition.lost:
            events += close_gaps(connection, self._scope, addition.seen_us)
        return events
