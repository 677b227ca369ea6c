"""Events given up for one sink: stored raw with the reason, bounded, and replayed on request."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from forwarder.core.contracts import Lost, Record, StoredPage
from forwarder.core.errors import StateError
from forwarder.core.identity import SIZE
from forwarder.core.log import EXPECTED_REFUSAL, DeadLetter
from forwarder.core.source_contract import Records
from forwarder.journal.events import GapOpened
from forwarder.journal.lanes import close_lane, open_backfill, open_replay
from forwarder.journal.ledger import (
    DISCARDED,
    EXPECTED_REFUSALS,
    REPLAYED,
    Reason,
    Scope,
    close_gaps,
    note_letters,
    note_loss,
)
from forwarder.journal.storage import (
    CorruptError,
    PageRow,
    Place,
    buckets,
    insert_page,
    lane_id,
    to_stored,
)

MOST_EVENTS = 10_000
MOST_BYTES = 64 * 2**20
_HOLDING = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream
WHERE first_offset = (SELECT max(first_offset) FROM page WHERE first_offset <= ?)
"""
_LIST = """
SELECT d.id, sink.name, stream.account_id, stream.name, d.offset, d.at_us, d.seen_us, d.time_us,
       d.size, d.reason, lower(hex(d.identity)), d.row
FROM dead_letter d JOIN sink ON sink.id = d.sink JOIN stream ON stream.id = d.stream
WHERE (:sink IS NULL OR sink.name = :sink) AND (:id IS NULL OR d.id = :id)
ORDER BY d.id LIMIT :limit
"""


_SUMMARY = """
SELECT sink.name, reason, count(*), max(at_us) FROM dead_letter JOIN sink ON sink.id = sink
GROUP BY sink.name, reason ORDER BY max(at_us) DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter as the file has it; ``event_id`` is 32 hex digits, ``row`` the raw row."""

    id: int
    sink: str
    account_id: str
    stream: str
    offset: int
    at_us: int
    seen_us: int
    time_us: int
    size: int | None
    reason: str
    event_id: str
    row: bytes = field(repr=False)


def store_letters(
    connection: sqlite3.Connection, sink: int, dead: Sequence[DeadLetter], now_us: int
) -> None:
    """Copy the raw rows at these offsets into the sink's dead letters, in this transaction."""
    held: tuple[int, StoredPage] | None = None
    for letter in sorted(dead, key=lambda one: one.offset):
        # A destination may refuse a whole backfill: each page is unpacked once, not once a row.
        if held is None or letter.offset >= held[1].end_offset:
            held = _page_with(connection, letter.offset)
        stream, page = held
        index = letter.offset - page.first_offset
        connection.execute(
            "INSERT OR IGNORE INTO dead_letter (sink, stream, offset, at_us, seen_us, time_us, "
            "size, reason, identity, row) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                sink,
                stream,
                letter.offset,
                now_us,
                page.seen_us,
                page.times_us[index],
                letter.size,
                letter.reason,
                page.ids[index * SIZE : (index + 1) * SIZE],
                orjson.dumps(page.rows[index]),
            ),
        )


def _page_with(connection: sqlite3.Connection, offset: int) -> tuple[int, StoredPage]:
    """Return the stream's number and the page that holds an offset."""
    found = connection.execute(_HOLDING, (offset,)).fetchone()
    row = None if found is None else PageRow(*found)
    if row is None or row.body is None:
        raise CorruptError(f"offset {offset} is not in the journal any more")
    return row.stream, to_stored(row)


@dataclass(frozen=True, slots=True)
class LetterBounds:
    """How many dead letters a sink keeps, and how many bytes of them."""

    events: int = MOST_EVENTS
    bytes: int = MOST_BYTES


def room(
    connection: sqlite3.Connection, sink: int, bounds: LetterBounds = LetterBounds()
) -> tuple[int, int]:
    """Return the events and bytes left for refusals that nobody expected.

    Expected ones do not count: the oldest of them leave when there is no more room.
    """
    count, size = connection.execute(
        "SELECT count(*), coalesce(sum(length(row)), 0) FROM dead_letter "
        "WHERE sink = ? AND substr(reason, 1, ?) <> ?",
        (sink, len(EXPECTED_REFUSAL), EXPECTED_REFUSAL),
    ).fetchone()
    return max(0, bounds.events - count), max(0, bounds.bytes - size)


def make_room(
    connection: sqlite3.Connection, sink: int, now_us: int, bounds: LetterBounds = LetterBounds()
) -> GapOpened | None:
    """Let the oldest expected refusals leave until the rest fits; decides alone who leaves.

    They are recorded as passed over, and as a gap of the sink with their number. Returns what to
    report once the transaction is committed.
    """
    count, size = connection.execute(
        "SELECT count(*), coalesce(sum(length(row)), 0) FROM dead_letter WHERE sink = ?", (sink,)
    ).fetchone()
    leaving: list[tuple[int, int, int]] = []
    expected = connection.execute(
        "SELECT id, offset, time_us, length(row) FROM dead_letter "
        "WHERE sink = ? AND substr(reason, 1, ?) = ? ORDER BY id",
        (sink, len(EXPECTED_REFUSAL), EXPECTED_REFUSAL),
    )
    while (count > bounds.events or size > bounds.bytes) and (found := expected.fetchone()):
        number, offset, time_us, length = found
        leaving.append((number, offset, time_us))
        count, size = count - 1, size - length
    if not leaving:
        return None
    ids, offsets, times_us = zip(*leaving, strict=True)
    connection.executemany("DELETE FROM dead_letter WHERE id = ?", [(one,) for one in ids])
    note_letters(connection, sink, offsets, EXPECTED_REFUSALS)
    (name,) = connection.execute("SELECT name FROM sink WHERE id = ?", (sink,)).fetchone()
    why = "the dead letters were full; the destination had refused these events as expected"
    lost = Lost("expected_refusals", min(times_us), max(times_us), len(ids), why)
    return note_loss(connection, Scope(sink=name), lost, now_us)


def count_letters(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many dead letters each sink that has some keeps."""
    found = connection.execute(
        "SELECT sink.name, count(*) FROM dead_letter JOIN sink ON sink.id = sink GROUP BY sink.name"
    )
    return dict(found.fetchall())


def list_letters(
    connection: sqlite3.Connection,
    *,
    sink: str | None = None,
    letter_id: int | None = None,
    limit: int = -1,
) -> list[StoredLetter]:
    """Return dead letters in the order of their death."""
    found = connection.execute(_LIST, {"sink": sink, "id": letter_id, "limit": limit})
    return [StoredLetter(*row) for row in found]


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """The dead letters of one sink with one reason; ``latest_us`` is when the last one died."""

    sink: str
    reason: str
    events: int
    latest_us: int


def summarise_letters(connection: sqlite3.Connection, limit: int) -> list[LetterGroup]:
    """Return dead letters by sink and reason, the freshest first, at most ``limit`` groups."""
    return [LetterGroup(*row) for row in connection.execute(_SUMMARY, (limit,))]


def drop_letters(
    connection: sqlite3.Connection,
    sink: str,
    letter_ids: Sequence[int] | None,
    now_us: int,
    reason: Reason = DISCARDED,
) -> int:
    """Remove dead letters of a sink (all when no ids are given); return how many."""
    gone = connection.execute(
        "DELETE FROM dead_letter WHERE sink = (SELECT id FROM sink WHERE name = ?) "
        "AND (? OR id IN (SELECT value FROM json_each(?))) RETURNING sink, offset",
        (sink, letter_ids is None, orjson.dumps(list(letter_ids or ())).decode()),
    ).fetchall()
    for number in {number for number, _ in gone}:
        note_letters(connection, number, [offset for _, offset in gone], reason)
    if gone:
        # There is room again: what leaves from now on is another gap.
        close_gaps(connection, Scope(sink=sink), now_us, [EXPECTED_REFUSALS])
    return len(gone)


def requeue_letters(
    connection: sqlite3.Connection, lane: int, letters: Sequence[StoredLetter], now_us: int
) -> int:
    """Store the letters' rows as pages of a replay lane, ids unchanged; return how many."""
    by_stream: dict[tuple[str, str], list[Record]] = {}
    for letter in letters:
        record = Record(letter.row, letter.time_us, bytes.fromhex(letter.event_id), frozenset())
        by_stream.setdefault((letter.account_id, letter.stream), []).append(record)
    for (account_id, stream), found in by_stream.items():
        records = Records.of(found)
        (number,) = connection.execute(
            "SELECT id FROM stream WHERE account_id = ? AND name = ?", (account_id, stream)
        ).fetchone()
        for indices in buckets(records.times_us, range(len(records))).values():
            insert_page(connection, Place(number, lane, now_us), records.part(indices))
    return len(letters)


_KEPT_SINCE = """
SELECT min(first_offset), coalesce(sum(count), 0) FROM page
WHERE lane = 1 AND size > 0 AND seen_us >= ?
"""


def sink_number(connection: sqlite3.Connection, sink: str) -> int:
    """Return a sink's number; raises ``StateError`` for one the journal does not know."""
    found = connection.execute("SELECT id FROM sink WHERE name = ?", (sink,)).fetchone()
    if found is None:
        raise StateError(f"the journal knows no sink called {sink}")
    return int(found[0])


def replay_since(
    connection: sqlite3.Connection, lane: str, sink: str, since_us: int, now_us: int
) -> int:
    """Open a lane over all kept rows that were first seen at or after a time; return how many.

    Raises ``StateError`` when nothing is kept from then on.
    """
    number = sink_number(connection, sink)
    first, count = connection.execute(_KEPT_SINCE, (since_us,)).fetchone()
    if not count:
        raise StateError(
            "no rows are kept from that time on; `journal.keep_delivered` says for how long "
            "delivered rows stay, and `forwarder backfill --again` reads them from Cloudflare"
        )
    open_replay(connection, lane, {"since_us": since_us}, number, first, now_us)
    return int(count)


def replay_letters(
    connection: sqlite3.Connection,
    lane: str,
    sink: str,
    letter_ids: Sequence[int] | None,
    now_us: int,
) -> int:
    """Move dead letters (all when no ids are given) into a lane of their own; return how many.

    They keep their ids and are rendered with today's settings.
    """
    number = sink_number(connection, sink)
    wanted = None if letter_ids is None else set(letter_ids)
    letters = [
        letter
        for letter in list_letters(connection, sink=sink)
        if wanted is None or letter.id in wanted
    ]
    if not letters:
        return 0
    spec = {"dead_letters": len(letters)}
    open_backfill(connection, lane, spec, [number], now_us, partial=True)
    requeue_letters(connection, lane_id(connection, lane), letters, now_us)
    drop_letters(connection, sink, [letter.id for letter in letters], now_us, REPLAYED)
    close_lane(connection, lane)
    return len(letters)
