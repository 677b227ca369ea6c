"""Events given up for one sink: stored raw with the reason, bounded, and replayed on request.

A dead letter that is being replayed stays in its table, marked with the lane that it travels in,
until the sink has it. So a cancelled lane, or one that lost its rows, gives its letters back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from forwarder.core.contracts import Lost, Record, StoredPage
from forwarder.core.errors import StateError
from forwarder.core.identity import SIZE
from forwarder.core.journal import GapClosed, GapOpened, Keeping, LetterGroup, StoredLetter
from forwarder.core.log import EXPECTED_REFUSAL, DeadLetter, Progress
from forwarder.core.source_contract import Records
from forwarder.journal.lanes import (
    LETTERS,
    close_lane,
    end_finished,
    open_lane,
    read_ranges,
    write_progress,
)
from forwarder.journal.ledger import (
    DISCARDED,
    EXPECTED_REFUSALS,
    REFUSED,
    REPLAYED,
    Scope,
    close_gaps,
    note_loss,
    note_passed,
)
from forwarder.journal.storage import (
    CorruptError,
    PageRow,
    Place,
    Session,
    buckets,
    insert_pages,
    lane_id,
    next_offset,
    sink_id,
    to_stored,
)

_HOLDING = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream
WHERE first_offset = (SELECT max(first_offset) FROM page WHERE first_offset <= ?)
"""
_LETTERS = """
SELECT d.id, sink.name, stream.account_id, stream.name, d.row_offset, d.at_us, d.seen_us,
    d.time_us, d.size, d.reason, d.identity, d.row
FROM dead_letter d JOIN sink ON sink.id = d.sink JOIN stream ON stream.id = d.stream
WHERE d.lane IS NULL
"""
_SUMMARY = """
SELECT sink.name, reason, count(*), max(at_us) FROM dead_letter JOIN sink ON sink.id = sink
WHERE lane IS NULL GROUP BY sink.name, reason ORDER BY max(at_us) DESC LIMIT ?
"""


def acknowledge(
    session: Session,
    sink: int,
    lane: str,
    progress: Progress,
    dead: Sequence[DeadLetter],
    now_us: int,
    bounds: Keeping,
) -> tuple[bool, GapOpened | None]:
    """Store a sink's progress and dead letters together.

    Returns whether a lane ended, and a gap to emit: expected refusals that made room.

    Raises ``StateError`` for a place beyond what was stored. Only whoever remembers more than the
    journal holds can say such a thing, and the rows that get these offsets next would be skipped.
    """
    if max(progress.prefix, progress.end) > next_offset(session):
        raise StateError(
            f"lane {lane}: the acknowledgement reaches {progress.end}, rows are stored up to "
            f"{next_offset(session)}; start again from the journal"
        )
    number = lane_id(session, lane)
    # While a lane is being cancelled, writes in flight still settle.
    found = session.execute(
        "SELECT prefix, ranges, lane.kind FROM progress JOIN lane ON lane.id = progress.lane "
        "WHERE sink = ? AND lane.id = ? AND lane.state IN ('open', 'cancelling')",
        (sink, number),
    ).fetchone()
    if found is None:  # cancelled, or forgotten with its sink: what was unfinished is settled
        return False, None
    stored = Progress(found[0], read_ranges(found[1]))
    # What is done already was passed over, and is in a gap: it is not a dead letter as well.
    left = [letter for letter in dead if not stored.holds(letter.offset)]
    new = left
    if found[2] == LETTERS:
        new = _settle_replayed(session, sink, number, progress, left, now_us)
    store_letters(session, sink, new, now_us)
    note_refused(session, sink, number, left)
    # United, never replaced: retention may have passed rows that this consumer does not know of.
    write_progress(session, sink, number, stored.union(progress))
    opened = make_room(session, sink, now_us, bounds) if left else None
    return end_finished(session), opened


def _settle_replayed(
    session: Session,
    sink: int,
    lane: int,
    progress: Progress,
    dead: Sequence[DeadLetter],
    now_us: int,
) -> list[DeadLetter]:
    """Update replayed letters that were refused again, remove those that arrived.

    Returns the refused events that are not replayed letters: a lane of an older journal has those.
    """
    others = [
        letter
        for letter in dead
        if not session.execute(
            "UPDATE dead_letter SET lane = NULL, at_us = ?, reason = ?, size = ? "
            "WHERE sink = ? AND lane = ? AND row_offset = ?",
            (now_us, _storable(letter.reason), letter.size, sink, lane, letter.offset),
        ).rowcount
    ]
    # After the updates above: those that were refused again no longer travel, and stay.
    for start, end in ((0, progress.prefix), *progress.ranges):
        session.execute(
            "DELETE FROM dead_letter WHERE sink = ? AND lane = ? "
            "AND row_offset >= ? AND row_offset < ?",
            (sink, lane, start, end),
        )
    return others


def store_letters(session: Session, sink: int, dead: Sequence[DeadLetter], now_us: int) -> None:
    """Copy the raw rows at these offsets into the sink's dead letters, in this transaction."""
    held: tuple[tuple[int, int], StoredPage] | None = None
    for letter in sorted(dead, key=lambda one: one.offset):
        # A destination may refuse a whole backfill: each page is unpacked once, not once a row.
        if held is None or letter.offset >= held[1].end_offset:
            held = _page_with(session, letter.offset)
        (stream, timeless), page = held
        index = letter.offset - page.first_offset
        session.execute(
            "INSERT INTO dead_letter (sink, stream, row_offset, at_us, seen_us, time_us, timeless, "
            "size, reason, identity, row) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (
                sink,
                stream,
                letter.offset,
                now_us,
                page.seen_us,
                page.times_us[index],
                timeless,
                letter.size,
                _storable(letter.reason),
                page.ids[index * SIZE : (index + 1) * SIZE],
                orjson.dumps(page.rows[index]),
            ),
        )


def _storable(reason: str) -> str:
    """Return what a destination said, without NUL: PostgreSQL keeps none in a text."""
    return reason.replace("\0", "\ufffd")


def _page_with(session: Session, offset: int) -> tuple[tuple[int, int], StoredPage]:
    """Return (the stream's number, whether its rows have no times) and the page of an offset."""
    found = session.execute(_HOLDING, (offset,)).fetchone()
    row = None if found is None else PageRow(*found)
    if row is None or row.body is None:
        raise CorruptError(f"offset {offset} is not in the journal any more")
    return (row.stream, row.timeless), to_stored(row)


def give_back(session: Session, sink: int, lane: int, offsets: Sequence[tuple[int, int]]) -> int:
    """Make replayed letters at these offsets dead letters again; return how many.

    The row is in the letter itself, so this works when the lane's rows are gone.
    """
    return sum(
        session.execute(
            "UPDATE dead_letter SET lane = NULL WHERE sink = ? AND lane = ? "
            "AND row_offset >= ? AND row_offset < ?",
            (sink, lane, start, end),
        ).rowcount
        for start, end in offsets
    )


def room(session: Session, sink: int, bounds: Keeping) -> tuple[int, int]:
    """Return the events and bytes left for refusals that nobody expected.

    Expected ones do not count: the oldest of them leave when there is no more room. Letters that
    are being sent again do not count either, or a replay of a full box could never be refused.
    """
    count, size = session.execute(
        "SELECT count(*), coalesce(sum(length(row)), 0) FROM dead_letter "
        "WHERE sink = ? AND lane IS NULL AND substr(reason, 1, CAST(? AS INTEGER)) <> ?",
        (sink, len(EXPECTED_REFUSAL), EXPECTED_REFUSAL),
    ).fetchone()
    return max(0, bounds.letters - count), max(0, bounds.letter_bytes - size)


def make_room(session: Session, sink: int, now_us: int, bounds: Keeping) -> GapOpened | None:
    """Let the oldest expected refusals leave until the rest fits; decides alone who leaves.

    They are recorded as passed over, and as a gap of the sink with their number. Returns what to
    emit once the transaction is committed.
    """
    count, size = session.execute(
        "SELECT count(*), coalesce(sum(length(row)), 0) FROM dead_letter "
        "WHERE sink = ? AND lane IS NULL",
        (sink,),
    ).fetchone()
    leaving: list[tuple[int, int, int]] = []
    expected = session.execute(
        "SELECT id, row_offset, time_us, length(row) FROM dead_letter "
        "WHERE sink = ? AND lane IS NULL AND substr(reason, 1, CAST(? AS INTEGER)) = ? ORDER BY id",
        (sink, len(EXPECTED_REFUSAL), EXPECTED_REFUSAL),
    )
    while (count > bounds.letters or size > bounds.letter_bytes) and (found := expected.fetchone()):
        number, offset, time_us, length = found
        leaving.append((number, offset, time_us))
        count, size = count - 1, size - length
    if not leaving:
        return None
    for number, offset, _ in leaving:
        session.execute("DELETE FROM dead_letter WHERE id = ?", (number,))
        _note(session, sink, offset, EXPECTED_REFUSALS)
    times_us = [time_us for *_, time_us in leaving]
    (name,) = session.execute("SELECT name FROM sink WHERE id = ?", (sink,)).fetchone()
    why = "the dead letters were full; the destination had refused these events as expected"
    lost = Lost(EXPECTED_REFUSALS, min(times_us), max(times_us), len(leaving), why)
    return note_loss(session, Scope(sink=name), lost, now_us)


def count_letters(session: Session) -> dict[str, int]:
    """Return how many dead letters each sink that has some keeps."""
    found = session.execute(
        "SELECT sink.name, count(*) FROM dead_letter JOIN sink ON sink.id = sink "
        "WHERE lane IS NULL GROUP BY sink.name"
    )
    return dict(found.fetchall())


def list_letters(
    session: Session,
    *,
    sink: str | None = None,
    letter_id: int | None = None,
    limit: int | None = None,
) -> list[StoredLetter]:
    """Return dead letters in the order of their death; ``StateError`` for an unknown sink."""
    where, values = "", list[int]()
    if sink is not None:
        where, values = "AND d.sink = ? ", [sink_id(session, sink)]
    if letter_id is not None:
        where, values = f"{where}AND d.id = ? ", [*values, letter_id]
    ending, values = ("LIMIT ?", [*values, limit]) if limit is not None else ("", values)
    found = session.execute(f"{_LETTERS} {where} ORDER BY d.id {ending}", values)
    return [_letter(*row) for row in found]


def _letter(*columns: Any) -> StoredLetter:
    *others, identity, row = columns
    return StoredLetter(*(*others, identity.hex(), row))


def summarise_letters(session: Session, limit: int) -> list[LetterGroup]:
    """Return dead letters by sink and reason, the freshest first, at most ``limit`` groups."""
    return [LetterGroup(*row) for row in session.execute(_SUMMARY, (limit,))]


def drop_letters(
    session: Session, sink: str, letter_ids: Collection[int] | None, now_us: int
) -> tuple[int, Sequence[GapClosed]]:
    """Discard dead letters of a sink (all without ids); return how many, and what to emit."""
    letters, number = _chosen(session, sink, letter_ids), sink_id(session, sink)
    for letter in letters:
        session.execute("DELETE FROM dead_letter WHERE id = ?", (letter.id,))
        _note(session, number, letter.offset, DISCARDED)
    if not letters:
        return 0, ()
    # There is room again: what leaves from now on is another gap.
    return len(letters), close_gaps(session, Scope(sink=sink), now_us, [EXPECTED_REFUSALS])


def replay_letters(
    session: Session, lane: str, sink: str, letter_ids: Collection[int] | None, now_us: int
) -> int:
    """Move dead letters (all without ids) into a lane of their own; return how many.

    They keep their ids and are rendered with today's settings.
    """
    letters = _chosen(session, sink, letter_ids)
    if not letters:
        return 0
    number = sink_id(session, sink)
    spec = {"dead_letters": len(letters)}
    into = open_lane(session, lane, LETTERS, spec, [number], now_us)
    # A row without a time goes into a page without times, which keeps when it was seen: an audit
    # looks for it there, and its event keeps its time.
    together: dict[tuple[int, int | None], list[StoredLetter]] = {}
    for letter in letters:
        stream, timeless = session.execute(
            "SELECT stream, timeless FROM dead_letter WHERE id = ?", (letter.id,)
        ).fetchone()
        seen_us = letter.seen_us if timeless else None
        together.setdefault((stream, seen_us), []).append(letter)
    for (stream, seen_us), found in together.items():
        place = Place(stream, into, now_us if seen_us is None else seen_us)
        _requeue(session, place, number, found, timeless=seen_us is not None)
    close_lane(session, lane)
    close_gaps(session, Scope(sink=sink), now_us, [EXPECTED_REFUSALS])
    return len(letters)


def _requeue(
    session: Session, place: Place, sink: int, letters: Sequence[StoredLetter], *, timeless: bool
) -> None:
    """Store the letters' rows in the lane, and let each letter point at its row's new offset."""
    records = Records.of(
        [
            Record(
                one.row, None if timeless else one.time_us, bytes.fromhex(one.event_id), frozenset()
            )
            for one in letters
        ]
    )
    for indices in buckets(records.times_us, range(len(records))).values():
        pages = insert_pages(session, place, records.part(indices))
        offsets = [first + at for first, part in pages for at in range(len(part))]
        for index, offset in zip(indices, offsets, strict=True):
            _note(session, sink, letters[index].offset, REPLAYED)
            session.execute(
                "UPDATE dead_letter SET lane = ?, row_offset = ? WHERE id = ?",
                (place.lane, offset, letters[index].id),
            )


def _chosen(session: Session, sink: str, letter_ids: Collection[int] | None) -> list[StoredLetter]:
    wanted = None if letter_ids is None else set(letter_ids)
    letters = list_letters(session, sink=sink)
    return [letter for letter in letters if wanted is None or letter.id in wanted]


def note_refused(session: Session, sink: int, lane: int, dead: Sequence[DeadLetter]) -> None:
    """Write down in which lane events were refused: another lane may have delivered the rows."""
    for letter in dead:
        note_passed(session, sink, lane, (letter.offset, letter.offset + 1), REFUSED)


def _note(session: Session, sink: int, offset: int, reason: str) -> None:
    """Write down what became of a dead letter, in each lane that refused its row."""
    found = session.execute(
        "SELECT lane FROM page WHERE first_offset + count > ? AND first_offset = "
        "(SELECT max(first_offset) FROM page WHERE first_offset <= ?)",
        (offset, offset),
    ).fetchone()
    if found is None:
        return
    readers = session.execute("SELECT id FROM lane WHERE pages_of = ? ORDER BY id", found)
    refused = [lane for (lane,) in readers.fetchall() if _refused(session, sink, lane, offset)]
    # One that came back when its replay ended was refused by no lane that is still there.
    for lane in refused or found:
        note_passed(session, sink, lane, (offset, offset + 1), reason)


def _refused(session: Session, sink: int, lane: int, offset: int) -> bool:
    found = session.execute(
        "SELECT end_offset, reason FROM passed_over WHERE sink = ? AND lane = ? "
        "AND from_offset <= ? ORDER BY from_offset DESC LIMIT 1",
        (sink, lane, offset),
    ).fetchone()
    return found is not None and found[0] > offset and found[1] == REFUSED
