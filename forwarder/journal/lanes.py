"""Lanes, and each sink's place in them.

A lane is a sequence of stored rows: ``live``, a backfill that grows rows of its own, a replay that
reads the live lane's rows again, or dead letters on their way once more. A sink that the journal
knows has a place in every lane it is owed, whether it runs or not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from forwarder.core.errors import AbsentError
from forwarder.core.journal import (
    CANCELLED,
    DONE,
    OPEN,
    LaneRecord,
    SinkPlace,
    SinkRecord,
    StartAt,
)
from forwarder.core.log import Lane, Progress
from forwarder.journal.ledger import BEFORE_START, Loss, note_passed
from forwarder.journal.storage import LIVE_LANE, Session, next_offset, sink_id

BACKFILL, REPLAY, LETTERS = "backfill", "replay", "letters"
CANCELLING = "cancelling"
NO_END = 2**63 - 1

_PLACES = """
SELECT sink.id, sink.name, lane.id, lane.name, lane.kind, lane.pages_of, lane.from_offset,
    lane.end_offset, progress.prefix, progress.ranges
FROM progress JOIN sink ON sink.id = progress.sink JOIN lane ON lane.id = progress.lane
WHERE lane.state IN ('open', 'cancelling')
"""


class Standing(NamedTuple):
    """One sink's place in one lane; ``end`` is beyond every offset while the lane grows."""

    sink: int
    sink_name: str
    lane: int
    lane_name: str
    kind: str
    pages_of: int
    start: int
    end: int
    progress: Progress

    def outstanding(self, first: int, end: int) -> list[tuple[int, int]]:
        """Return what of a page's offsets the sink still waits for in this lane."""
        return self.progress.outstanding(max(first, self.start), min(end, self.end))


def standings(session: Session, where: str = "", values: Sequence[Any] = ()) -> list[Standing]:
    """Return the places in lanes that are not over; ``where`` narrows them (``AND ...``)."""
    found = session.execute(f"{_PLACES} {where} ORDER BY sink.id, lane.id", values)
    return [
        Standing._make(
            (*names, NO_END if end is None else end, Progress(prefix, read_ranges(ranges)))
        )
        for *names, end, prefix, ranges in found.fetchall()
    ]


def read_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Return the half-open ranges of a stored progress."""
    return tuple((start, end) for start, end in orjson.loads(text))


def write_progress(session: Session, sink: int, lane: int, progress: Progress) -> None:
    """Store a place as it is; the caller has united it with what was stored."""
    session.execute(
        "UPDATE progress SET prefix = ?, ranges = ? WHERE sink = ? AND lane = ?",
        (progress.prefix, orjson.dumps(progress.ranges).decode(), sink, lane),
    )


def finish(session: Session, standing: Standing, done: Iterable[tuple[int, int]]) -> None:
    """Count offsets as done that no consumer acknowledged, and move the place over holes.

    Between two rows of a lane lie offsets of other lanes. A consumer jumps them when it reads;
    here nobody reads, so the place moves to the next row that the sink still waits for.
    """
    progress = standing.progress.union(Progress(0, tuple(done)))
    moved = standing._replace(progress=progress)
    waiting = _first_waiting(session, moved)
    # The end of a lane that is closed lies behind all its rows, whoever owns the last offsets.
    if waiting is None:
        waiting = progress.end if standing.end == NO_END else standing.end
    progress = progress.union(Progress(max(progress.prefix, waiting)))
    write_progress(session, standing.sink, standing.lane, progress)


def _first_waiting(session: Session, standing: Standing) -> int | None:
    found = session.execute(
        "SELECT first_offset, first_offset + count FROM page "
        "WHERE lane = ? AND first_offset + count > ? AND first_offset < ? ORDER BY first_offset",
        (standing.pages_of, standing.progress.prefix, standing.end),
    )
    return next((hole[0] for page in found for hole in standing.outstanding(*page)[:1]), None)


def waiting_rows(session: Session, standing: Standing) -> list[Loss]:
    """Return what the sink still waits for in a lane, by stored page, with the rows' times."""
    found = session.execute(
        "SELECT first_offset, first_offset + count, tmin_us, tmax_us FROM page "
        "WHERE lane = ? AND first_offset + count > ? AND first_offset < ? ORDER BY first_offset",
        (standing.pages_of, standing.progress.prefix, standing.end),
    ).fetchall()
    return [
        Loss(standing.lane, *hole, since_us, until_us)
        for first, end, since_us, until_us in found
        for hole in standing.outstanding(first, end)
    ]


def join_sink(session: Session, name: str, start_at: StartAt, now_us: int) -> int:
    """Return the number of a sink; a new one gets its places.

    A new sink joins the live lane, and every backfill for all sinks that still grows: the rows
    that such a lane stores from now on count as seen, so nobody else would bring them to the sink.
    """
    found = session.execute("SELECT id FROM sink WHERE name = ?", (name,)).fetchone()
    # It comes back: its places are where it left them, in lanes that ended meanwhile, too.
    if found:
        return int(found[0])
    (number,) = session.execute(
        "INSERT INTO sink (name, created_us) VALUES (?, ?) RETURNING id", (name, now_us)
    ).fetchone()
    storing = session.execute(
        "SELECT id, from_offset, id = ? OR (kind = ? AND partial = 0 "
        "AND end_offset IS NULL AND state = 'open') FROM lane WHERE pages_of = id ORDER BY id",
        (LIVE_LANE, BACKFILL),
    ).fetchall()
    here = next_offset(session)
    for lane, start, joins in storing:
        # A lane that it does not read is not owed to it, up to here: an audit must not miss rows
        # that were stored before anybody knew of the sink.
        begin = here if start_at == "now" or not joins else _first_kept(session, lane)
        note_passed(session, number, lane, (start, begin), BEFORE_START)
        if joins:
            _enter(session, number, lane, begin)
    return int(number)


def _first_kept(session: Session, lane: int) -> int:
    """Return the first offset of a lane whose row is still there."""
    found = session.execute(
        "SELECT min(first_offset) FROM page WHERE lane = ? AND size > 0", (lane,)
    ).fetchone()
    return int(found[0]) if found[0] is not None else next_offset(session)


def _enter(session: Session, sink: int, lane: int, start: int) -> None:
    """Give a sink its place in a lane, past the pages that were emptied before it came."""
    session.execute(
        "INSERT INTO progress (sink, lane, prefix, ranges) VALUES (?, ?, ?, '[]')",
        (sink, lane, start),
    )
    (standing,) = standings(session, "AND sink.id = ? AND lane.id = ?", (sink, lane))
    emptied = session.execute(
        "SELECT first_offset, first_offset + count FROM page WHERE lane = ? AND size = 0 "
        "AND first_offset + count > ? AND first_offset < ? ORDER BY first_offset",
        (standing.pages_of, start, standing.end),
    ).fetchall()
    gone = [hole for page in emptied for hole in standing.outstanding(*page)]
    for hole in gone:
        note_passed(session, sink, lane, hole, BEFORE_START)
    if gone:
        finish(session, standing, gone)


def open_lane(
    session: Session,
    name: str,
    kind: str,
    spec: Mapping[str, Any],
    sinks: Sequence[int],
    now_us: int,
    *,
    offsets: tuple[int, int] | None = None,
) -> int:
    """Add a lane and a place in it for each sink; return its number.

    ``offsets`` makes it a replay of these live rows; any other lane grows rows of its own. A lane
    that is not for all sinks the journal knows is ``partial``: its rows do not count as seen, or
    the live reader would keep them from the others.
    """
    # Counted inside the transaction: a sink that joins at this moment is before or after it.
    (known,) = session.execute("SELECT count(*) FROM sink").fetchone()
    partial = kind != BACKFILL or len(set(sinks)) < known
    start, end = offsets or (next_offset(session), None)
    (number,) = session.execute(
        "INSERT INTO lane (name, kind, pages_of, from_offset, end_offset, state, partial, spec, "
        "created_us) VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?) RETURNING id",
        (name, kind, LIVE_LANE, start, end, int(partial), orjson.dumps(spec).decode(), now_us),
    ).fetchone()
    # The number is only known now; a lane that grows has pages of its own.
    if offsets is None:
        session.execute("UPDATE lane SET pages_of = id WHERE id = ?", (number,))
    for sink in sinks:
        _enter(session, sink, number, start)
    return int(number)


def open_backfill(
    session: Session, name: str, spec: Mapping[str, Any], sinks: Sequence[str], now_us: int
) -> None:
    """Add a lane that rows will be appended to until ``close_lane``, for all sinks by default."""
    numbers = [sink_id(session, sink) for sink in sinks]
    everybody = [number for (number,) in session.execute("SELECT id FROM sink ORDER BY id")]
    open_lane(session, name, BACKFILL, spec, numbers or everybody, now_us)


def replay_since(session: Session, lane: str, sink: str, since_us: int, now_us: int) -> int:
    """Open a lane over all kept rows from the first one seen at or after a time; return how many.

    Raises ``AbsentError`` when nothing is kept from then on.
    """
    number = sink_id(session, sink)
    (first,) = session.execute(
        "SELECT min(first_offset) FROM page WHERE lane = ? AND size > 0 AND seen_us >= ?",
        (LIVE_LANE, since_us),
    ).fetchone()
    if first is None:
        raise AbsentError(
            "no rows are kept from that time on; `journal.keep_delivered` sets how long delivered "
            "rows stay, and `forwarder backfill --again` reads them from Cloudflare"
        )
    # All from the first on, whenever they were seen: the clock may have been set back.
    (count,) = session.execute(
        "SELECT coalesce(sum(count), 0) FROM page WHERE lane = ? AND size > 0 "
        "AND first_offset >= ?",
        (LIVE_LANE, first),
    ).fetchone()
    offsets = (int(first), next_offset(session))
    open_lane(session, lane, REPLAY, {"since_us": since_us}, [number], now_us, offsets=offsets)
    return int(count)


def close_lane(session: Session, name: str) -> None:
    """Note that nothing more will be appended; forget the readers that filled the lane."""
    # Readers of a backfill are called like its lane, one in each stream.
    session.execute("DELETE FROM reader WHERE name = ?", (name,))
    session.execute(
        "UPDATE lane SET end_offset = ? WHERE name = ? AND end_offset IS NULL AND state = 'open'",
        (next_offset(session), name),
    )
    for standing in standings(session, "AND lane.name = ?", (name,)):
        finish(session, standing, ())
    end_finished(session)


def end_finished(session: Session) -> bool:
    """Mark lanes as done that every sink, running or absent, is through with."""
    return (
        session.execute(
            "UPDATE lane SET state = 'done' WHERE state = 'open' AND end_offset IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM progress "
            "WHERE progress.lane = lane.id AND prefix < lane.end_offset)"
        ).rowcount
        > 0
    )


def stop_lane(session: Session, name: str) -> None:
    """Take a lane out of the sinks' lanes; raises ``AbsentError`` when it is not open."""
    stopped = session.execute(
        "UPDATE lane SET state = ?, end_offset = coalesce(end_offset, ?) "
        "WHERE name = ? AND state IN ('open', 'cancelling') AND id <> ?",
        (CANCELLING, next_offset(session), name, LIVE_LANE),
    )
    if not stopped.rowcount:
        raise AbsentError(f"no open lane is called {name}; `forwarder status` lists them")
    session.execute("DELETE FROM reader WHERE name = ?", (name,))


def lanes_of(session: Session, sink: int) -> list[Lane]:
    """Return the open lanes in which a sink has something to do, the live lane first."""
    found = standings(session, "AND sink.id = ? AND lane.state = 'open'", (sink,))
    return [
        Lane(one.lane_name, one.progress, None if one.end == NO_END else one.end)
        for one in found
        # What this sink has finished is not its business, though others may still work on it.
        if one.end == NO_END or one.progress.prefix < one.end
    ]


def list_lanes(session: Session, running: Collection[str] | None) -> list[LaneRecord]:
    """Return every lane; one whose ``running`` sinks are through (None: all of them) is done."""
    readers: dict[int, list[tuple[str, int]]] = {}
    for lane, sink, prefix in session.execute(
        "SELECT progress.lane, sink.name, prefix FROM progress "
        "JOIN sink ON sink.id = progress.sink ORDER BY sink.id"
    ):
        readers.setdefault(lane, []).append((sink, prefix))
    found = session.execute(
        "SELECT id, name, state, from_offset, end_offset, created_us, spec FROM lane ORDER BY id"
    )
    return [
        LaneRecord(
            name,
            _state(state, end, [p for s, p in sinks if running is None or s in running]),
            start,
            end,
            created,
            orjson.loads(spec),
            [sink for sink, _ in sinks],
        )
        for number, name, state, start, end, created, spec in found.fetchall()
        for sinks in (readers.get(number, []),)
    ]


def _state(stored: str, end: int | None, prefixes: Sequence[int]) -> str:
    if stored == CANCELLING:
        return CANCELLED
    # An absent sink would keep the lane open for ever, and whoever waits for its end with it.
    if stored == OPEN and end is not None and all(prefix >= end for prefix in prefixes):
        return DONE
    return stored


def places(session: Session, running: Collection[str] | None) -> list[SinkPlace]:
    """Return every sink's place in every lane where it is not done."""
    return [
        SinkPlace(
            one.sink_name,
            one.lane_name,
            one.progress,
            *_backlog(session, one),
            running is None or one.sink_name in running,
        )
        for one in standings(session, "AND lane.state = 'open'")
        if one.progress.prefix < one.end
    ]


def _backlog(session: Session, one: Standing) -> tuple[int, int | None]:
    """Return how many events wait, and when the first of them was seen.

    Done ranges span offsets of other lanes too, so they are subtracted page by page, and only
    from the pages that they touch; the bulk of a long backlog is one sum.
    """
    done_until = one.progress.end
    count, oldest = session.execute(
        "SELECT coalesce(sum(count), 0), min(seen_us) FROM page WHERE lane = ? AND size > 0 "
        "AND first_offset >= ? AND first_offset < ?",
        (one.pages_of, max(done_until, one.start), one.end),
    ).fetchone()
    touched = session.execute(
        "SELECT first_offset, first_offset + count, seen_us FROM page WHERE lane = ? AND size > 0 "
        "AND first_offset + count > ? AND first_offset < ?",
        (one.pages_of, one.progress.prefix, min(max(done_until, one.start), one.end)),
    )
    for first, end, seen_us in touched.fetchall():
        waiting = sum(b - a for a, b in one.outstanding(first, end))
        if waiting:
            count, oldest = count + waiting, seen_us if oldest is None else min(oldest, seen_us)
    return int(count), oldest


def list_sinks(session: Session) -> list[SinkRecord]:
    """Return every sink, with what waits for it and how many dead letters it has."""
    waiting: dict[str, list[tuple[str, int]]] = {}
    for one in standings(session):
        if one.progress.prefix < one.end:
            waiting.setdefault(one.sink_name, []).append((one.lane_name, _backlog(session, one)[0]))
    found = session.execute(
        "SELECT name, created_us, (SELECT count(*) FROM dead_letter WHERE sink = sink.id) "
        "FROM sink ORDER BY id"
    )
    return [
        SinkRecord(
            name,
            created_us,
            sum(count for _, count in waiting.get(name, [])),
            letters,
            [lane for lane, _ in waiting.get(name, [])],
        )
        for name, created_us, letters in found.fetchall()
    ]


def remove_sink(session: Session, number: int) -> None:
    """Remove everything that is kept for a sink; its losses stay in the ledger."""
    for table in ("progress", "passed_over", "dead_letter"):
        session.execute(f"DELETE FROM {table} WHERE sink = ?", (number,))
    session.execute("DELETE FROM sink WHERE id = ?", (number,))
    end_finished(session)


def holders(
    session: Session, sinks: Collection[int], kinds: Collection[str]
) -> dict[int, list[tuple[int, int]]]:
    """Return, by the lane that has the pages, the ranges of offsets that these sinks still need."""
    held: dict[int, list[tuple[int, int]]] = {}
    for one in standings(session):
        if one.sink in sinks and one.kind in kinds and one.progress.prefix < one.end:
            held.setdefault(one.pages_of, []).append((one.progress.prefix, one.end))
    return held
