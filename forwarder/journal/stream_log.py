"""The log of one stream; implements ``core.log.StreamLog``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from forwarder.core.contracts import LIVE, Lost, StreamKey, Window
from forwarder.core.errors import StateError
from forwarder.core.journal import Cursor
from forwarder.core.log import (
    MOST_KEY_SETS,
    Addition,
    Appended,
    KeySet,
    ReaderState,
    StreamMemory,
)
from forwarder.core.source_contract import Records
from forwarder.core.telemetry import Emit, TelemetryEvent
from forwarder.journal.ledger import Scope, append_own, close_gaps, note_loss
from forwarder.journal.reader import LaneEnds, PageCache
from forwarder.journal.storage import (
    HOUR_US,
    CorruptError,
    PageRow,
    Place,
    Session,
    buckets,
    fresh_page,
    insert_pages,
    keep,
    next_offset,
    open_lane_id,
    recall,
    split_hashes,
    stream_id,
)
from forwarder.journal.writer import Writer

_MOST_CACHED = 64_000
_WITHOUT_BODY = """
SELECT '', '', first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, NULL FROM page WHERE first_offset = ?
"""
_TIMELESS = """
SELECT first_offset FROM page WHERE stream = :stream AND timeless = 1
AND (lane = :lane OR lane IN (SELECT id FROM lane WHERE partial = 0))
"""
_TOUCHING = """
SELECT first_offset FROM page WHERE stream = :stream AND timeless = 0
AND tmax_us BETWEEN :low AND :until AND tmin_us <= :high
AND (lane = :lane OR lane IN (SELECT id FROM lane WHERE partial = 0))
"""


class SeenPages:
    """Identities of recently opened pages, by first offset; lives in the writer's thread.

    Bounded in identities. A stored page does not change while its lane is open, so an entry is
    never stale; after a rollback offsets may be used again, and a cancelled lane rewrites its
    pages: then the whole cache is dropped.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._pages: OrderedDict[int, frozenset[bytes]] = OrderedDict()
        self._held = 0

    def clear(self) -> None:
        """Forget everything; called when a transaction was undone, and by ``cancel_lane``."""
        self._pages.clear()
        self._held = 0

    def add(self, first_offset: int, identities: Iterable[bytes]) -> frozenset[bytes]:
        """Remember a page, as one that was just stored: the next answer begins with its rows."""
        known = self._pages[first_offset] = frozenset(identities)
        self._held += len(known)
        while self._held > _MOST_CACHED and len(self._pages) > 1:
            self._held -= len(self._pages.popitem(last=False)[1])
        return known

    def touching(
        self, session: Session, place: Place, bounds: tuple[int, int] | None
    ) -> Iterator[frozenset[bytes]]:
        """Give the identities of all pages that touch a range of times; None: timeless ones.

        Pages of lanes that not every sink reads count only for such a lane itself. They come one
        by one: timeless rows of two days, or a busy hour, are more than memory should hold.
        """
        among = {"stream": place.stream, "lane": place.lane}
        if bounds is None:
            found = session.execute(_TIMELESS, among)
        else:
            low, high = bounds
            times = {"low": low, "high": high, "until": high + HOUR_US}
            found = session.execute(_TOUCHING, {**among, **times})
        return (self._identities(session, first) for (first,) in found.fetchall())

    def _identities(self, session: Session, first_offset: int) -> frozenset[bytes]:
        known = self._pages.get(first_offset)
        if known is not None:
            self._pages.move_to_end(first_offset)
            return known
        found = session.execute(_WITHOUT_BODY, (first_offset,)).fetchone()
        if found is None:
            raise CorruptError(f"the page at offset {first_offset} is in an index only")
        row = PageRow(*found)
        row.verify()
        return self.add(first_offset, split_hashes(row.hashes))


def unseen(
    session: Session,
    place: Place,
    records: Records,
    aliases: Mapping[int, Sequence[bytes]],
    seen: SeenPages,
    twins: Collection[int] = (),
) -> tuple[list[int], int]:
    """Return the indices of ``twins``, and of records that are stored under no identity of theirs.

    The second number counts those found only under an alias (reshaped rows).
    """
    new = list(twins)
    reshaped = 0
    asking = range(len(records))
    apart = [index for index in asking if index not in twins] if twins else asking
    for bucket, indices in buckets(records.times_us, apart).items():
        bounds = None if bucket is None else _bounds(records.times_us, indices)
        # Only what the answer asks for is held, not what the pages have: memory stays bounded.
        asked = {records.identities[index] for index in indices}
        asked.update(alias for index in indices for alias in aliases.get(index, ()))
        known: set[bytes] = set()
        for page in seen.touching(session, place, bounds):
            known |= asked & page
        if not known and not aliases and len(asked) == len(indices):
            new += indices
            continue
        for index in indices:
            identity = records.identities[index]
            if identity in known:
                continue
            if not known.isdisjoint(aliases.get(index, ())):
                reshaped += 1
                continue
            known.add(identity)  # of equal rows in one answer the first counts
            new.append(index)
    return sorted(new), reshaped


def _bounds(times_us: Sequence[int | None], indices: Sequence[int]) -> tuple[int, int]:
    times = [times_us[index] or 0 for index in indices]
    return min(times), max(times)


def store(
    session: Session,
    place: Place,
    records: Records,
    new: Sequence[int],
    seen: SeenPages,
) -> list[tuple[int, Records]]:
    """Store the records at ``new`` as pages of an hour each; return those by first offset."""
    stored = []
    for indices in buckets(records.times_us, new).values():
        part = records.part(indices)
        for first, page in insert_pages(session, place, part):
            seen.add(first, page.identities)
            stored.append((first, page))
    return stored


def save_reader(session: Session, stream: int, name: str, state: ReaderState) -> None:
    """Store how far a reader has come, in the transaction of the rows it read."""
    window = state.window
    session.execute(
        "INSERT INTO reader (stream, name, covered_until_us, since_us, until_us, position, rows, "
        "reached_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (stream, name) DO UPDATE SET "
        "covered_until_us = excluded.covered_until_us, since_us = excluded.since_us, "
        "until_us = excluded.until_us, position = excluded.position, rows = excluded.rows, "
        "reached_us = excluded.reached_us",
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


def is_overtaken(session: Session, stream: int, addition: Addition) -> bool:
    """Return True if rows may be stored under more keys than the page has them with.

    Only earlier, smaller key sets are looked up. So a page that was asked for before a larger one
    appeared must not be stored after it.
    """
    if addition.known is None or addition.again:
        return False
    known = {one.keys for one in addition.known}
    appeared = [one.keys for one in load_key_sets(session, stream) if one.keys not in known]
    held = set(Records.of(addition.records).keys)
    return any(keys < larger for keys in held for larger in appeared)


def forget_keys(session: Session, stream: int, old_keys: Sequence[frozenset[str]]) -> None:
    """Remove key sets that are not to be remembered any more."""
    for keys in old_keys:
        session.execute(
            "DELETE FROM key_set WHERE stream = ? AND keys = ?",
            (stream, orjson.dumps(sorted(keys)).decode()),
        )


def remember_keys(session: Session, stream: int, new_keys: Sequence[frozenset[str]]) -> None:
    """Note key sets seen for the first time, and how far the stream had come before them."""
    if not new_keys:
        return
    # Before the rows of this page: those came with the new keys.
    (horizon,) = session.execute(
        "SELECT max(tmax_us) FROM page WHERE stream = ?", (stream,)
    ).fetchone()
    (offset,) = session.execute("SELECT next_offset FROM counter").fetchone()
    for keys in new_keys:
        session.execute(
            "INSERT INTO key_set (stream, keys, horizon_us, first_offset) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (stream, orjson.dumps(sorted(keys)).decode(), horizon or 0, offset),
        )


def load_key_sets(session: Session, stream: int) -> list[KeySet]:
    """Return the key sets of a stream in order of appearance."""
    found = session.execute(
        "SELECT keys, horizon_us, first_offset FROM key_set WHERE stream = ? "
        "ORDER BY first_offset, keys",
        (stream,),
    )
    return [
        KeySet(frozenset(orjson.loads(keys)), horizon, offset) for keys, horizon, offset in found
    ]


def key_sets_of(session: Session, key: StreamKey) -> list[KeySet]:
    """Return the key sets of a stream by its name; none for one the journal does not know."""
    found = session.execute(
        "SELECT id FROM stream WHERE account_id = ? AND name = ?", (key.account_id, key.stream)
    ).fetchone()
    return [] if found is None else load_key_sets(session, int(found[0]))


_ONCE = "once:{hour:06d}:"
_ONCE_HOURS = 26
"""How long names are kept: a day, and what is left of the hours at both ends."""


def claim(session: Session, key: StreamKey, name: str, now_us: int) -> bool:
    """Remember the name of an addition; return False if it was remembered within the last day."""
    # The hour stands before the name, so that old names are found by their key and not by a scan.
    hours = [_ONCE.format(hour=now_us // HOUR_US - age) for age in range(_ONCE_HOURS)]
    scope, marks = str(key), ", ".join("?" * len(hours))
    known = session.execute(
        f"SELECT 1 FROM memory WHERE scope = ? AND key IN ({marks})",
        (scope, *(hour + name for hour in hours)),
    ).fetchone()
    if known is not None:
        return False
    session.execute(
        "DELETE FROM memory WHERE scope = ? AND key > ? AND key < ?",
        (scope, _ONCE.format(hour=0), hours[-1]),
    )
    keep(session, scope, hours[0] + name, now_us)
    return True


MOVED = "cursor_moved"


def list_cursors(session: Session) -> list[Cursor]:
    """Return every reader of every stream, the younger age first."""
    found = session.execute(
        "SELECT account_id, stream.name, reader.name, covered_until_us, until_us, rows "
        "FROM reader JOIN stream ON stream.id = reader.stream ORDER BY 1, 2, length(reader.name), 3"
    )
    return [Cursor(*row) for row in found]


def move_cursor(
    session: Session, key: StreamKey, to_us: int, now_us: int
) -> tuple[Cursor, list[TelemetryEvent]]:
    """Set the live position of a stream; rows that are jumped over go to the gap ledger.

    Moving it back is harmless: what was seen is not delivered again. A moment beyond now is now:
    a position ahead of the server's clock would be given up as damage. Raises ``StateError`` for a
    stream that the journal does not know. Nobody may be reading the stream meanwhile.
    """
    found = session.execute(
        "SELECT stream.id, covered_until_us FROM reader JOIN stream ON stream.id = reader.stream "
        "WHERE account_id = ? AND stream.name = ? AND reader.name = ?",
        (key.account_id, key.stream, LIVE),
    ).fetchone()
    if found is None:
        raise StateError(f"the journal knows no stream {key}; `forwarder cursors list` shows all")
    stream, from_us = found
    to_us = min(to_us, now_us)
    restart = "since_us = NULL, until_us = NULL, position = NULL, reached_us = NULL"
    session.execute(
        f"UPDATE reader SET covered_until_us = ?, {restart} WHERE stream = ? AND name = ?",
        (to_us, stream, LIVE),
    )
    events: list[TelemetryEvent] = []
    if to_us > from_us:
        # The trailing readers go along: they would find the rows that the operator gave up.
        session.execute(
            f"UPDATE reader SET covered_until_us = ?, {restart} "
            "WHERE stream = ? AND name LIKE 'reconcile:%' AND covered_until_us < ?",
            (to_us, stream, to_us),
        )
        scope = Scope(account_id=key.account_id, stream=key.stream)
        lost = Lost(MOVED, from_us, to_us, None, "an operator moved the cursor forward")
        opened = note_loss(session, scope, lost, now_us)
        events = [*([opened] if opened else []), *close_gaps(session, scope, now_us, [MOVED])]
    return Cursor(key.account_id, key.stream, LIVE, to_us, None, 0), events


class _Stored(NamedTuple):
    """What the writer's thread hands back: the answer, the lanes' end, what to emit."""

    appended: Appended
    end_offset: int
    events: list[TelemetryEvent]
    pages: Sequence[tuple[int, Records]] = ()


class JournalStreamLog:
    """Rows and reader positions of one stream of one account."""

    def __init__(
        self,
        key: StreamKey,
        writer: Writer,
        seen: SeenPages,
        ends: LaneEnds,
        emit: Emit,
        cache: PageCache,
    ) -> None:
        """Made by ``Journal.stream_log``; ``seen`` belongs to the writer's thread."""
        self._cache = cache
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
        stored = await self._writer.run(lambda session: self._append(session, addition))
        self._key_sets = list(stored.appended.key_sets)
        for first, rows in stored.pages:
            page = fresh_page(self._key, addition.seen_us, first, rows)
            if page is not None:
                self._cache.offer(page)
        self._ends.lane_grew(addition.lane, stored.end_offset)
        self._ends.lane_grew(LIVE, stored.end_offset)
        for event in stored.events:
            self._emit(event)
        return stored.appended

    async def forget(self, reader: str) -> None:
        """Remove a reader whose work is done."""
        await self._writer.run(
            lambda session: session.execute(
                "DELETE FROM reader WHERE stream = ? AND name = ?",
                (self._id(session), reader),
            )
        )

    async def recall(self, key: str) -> Any | None:
        """Return what was kept under ``key``, or None."""
        return await self._writer.run(lambda session: recall(session, str(self._key), key))

    async def keep(self, key: str, value: Any) -> None:
        """Keep a small JSON value under ``key``."""
        await self._writer.run(lambda session: keep(session, str(self._key), key, value))

    def _id(self, session: Session) -> int:
        return stream_id(session, self._key.account_id, self._key.stream)

    def _load(self, session: Session) -> dict[str, ReaderState]:
        number = self._id(session)
        sets = load_key_sets(session, number)
        # An older version forgot none; those that came first are the usual ones.
        self._key_sets = sets[:MOST_KEY_SETS]
        forget_keys(session, number, [one.keys for one in sets[MOST_KEY_SETS:]])
        found = session.execute(
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

    def _append(self, session: Session, addition: Addition) -> _Stored:
        number = self._id(session)
        if is_overtaken(session, number, addition):
            sets = load_key_sets(session, number)
            refused = Appended((), 0, addition.state.rows, sets, overtaken=True)
            return _Stored(refused, next_offset(session), [])
        if addition.once and not claim(session, self._key, addition.once, addition.seen_us):
            repeated = Appended((), 0, addition.state.rows, self._key_sets, repeated=True)
            return _Stored(repeated, next_offset(session), [])
        place = Place(number, open_lane_id(session, addition.lane), addition.seen_us)
        records = Records.of(addition.records)
        if addition.again:
            new, reshaped = list(range(len(records))), 0
        else:
            new, reshaped = unseen(
                session, place, records, addition.aliases, self._seen, addition.twins
            )
        forget_keys(session, number, addition.old_keys)
        remember_keys(session, number, addition.new_keys)
        pages = store(session, place, records, new, self._seen)
        rows = addition.state.rows + len(new)
        # Inside the transaction: the count it speaks of and the rows it counts are one.
        told = addition.tell(rows)
        state = replace(addition.state, rows=0 if told else rows)
        save_reader(session, number, addition.reader, state)
        events = self._account(session, addition)
        append_own(session, self._key.account_id, told, addition.seen_us)
        sets = (
            load_key_sets(session, number)
            if addition.new_keys or addition.old_keys
            else self._key_sets
        )
        return _Stored(
            Appended(new, reshaped, state.rows, sets), next_offset(session), events, pages
        )

    def _account(self, session: Session, addition: Addition) -> list[TelemetryEvent]:
        """Write losses into the ledger; close its records when a round ended without one."""
        opened = [note_loss(session, self._scope, lost, addition.seen_us) for lost in addition.lost]
        events: list[TelemetryEvent] = [gap for gap in opened if gap is not None]
        if addition.settled and not addition.lost:
            events += close_gaps(session, self._scope, addition.seen_us)
        return events
