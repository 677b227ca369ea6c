"""What was lost: the gap ledger, and the offsets that a sink was moved past.

A loss of a sink is written twice in one transaction: its offsets into ``passed_over``, which an
audit asks, and their number into the gap, which a person reads. So the two always agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from forwarder.core.contracts import FORWARDER_STREAM, Lost, Record, StreamKey
from forwarder.core.identity import Identifier
from forwarder.core.journal import Gap, GapClosed, GapCount, GapOpened, Passed
from forwarder.core.own_events import Own, own_row
from forwarder.core.source_contract import Records
from forwarder.journal.storage import LIVE_LANE, Place, Session, insert_pages, stream_id

BEFORE_START = "before_start"
"""The rows were stored, or emptied, before the sink's place began."""
DISCARDED = "discarded"
"""An operator dropped the sink's dead letters."""
REFUSED = "refused"
"""The lane's row is a dead letter; what becomes of that replaces this word."""
REPLAYED = "replayed"
"""The dead letters were stored again in a lane of their own, which is where they count."""
EXPECTED_REFUSALS = "expected_refusals"
"""The oldest dead letters that the sink had expected to be refused made room for newer ones."""
WITH_INTENT = frozenset({BEFORE_START, DISCARDED})

DROPPED = "dropped_oldest"
REMOVED = "sink_was_removed"
REPLAY_DROPPED = "replay_dropped"
LANE_CANCELLED = "lane_cancelled"

_COLUMNS = "id, scope, reason, since_us, until_us, rows, detail, opened_us, closed_us"

_INSERT = """
INSERT INTO passed_over (sink, lane, from_offset, end_offset, reason) VALUES (?, ?, ?, ?, ?)
"""


class Scope(NamedTuple):
    """Whose loss it is: a stream of an account, or a sink."""

    account_id: str = ""
    stream: str = ""
    sink: str = ""

    def __str__(self) -> str:
        """Return the key of the ledger: ``account/stream`` or ``sink:NAME``."""
        return f"sink:{self.sink}" if self.sink else f"{self.account_id}/{self.stream}"


def note_loss(session: Session, scope: Scope, lost: Lost, now_us: int) -> GapOpened | None:
    """Widen the open record of this scope and reason, or open one and tell the sinks.

    Returns what to emit once the transaction is committed: None when a record was widened.
    """
    widened = session.execute(
        "UPDATE gap SET since_us = CASE WHEN since_us < :since THEN since_us ELSE :since END, "
        "until_us = CASE WHEN until_us > :until THEN until_us ELSE :until END, "
        "rows = CASE WHEN rows IS NULL AND :counted = 0 THEN NULL "
        "ELSE coalesce(rows, 0) + :rows END "
        "WHERE scope = :scope AND reason = :reason AND closed_us IS NULL",
        {
            "since": lost.since_us,
            "until": lost.until_us,
            "counted": int(lost.rows is not None),
            "rows": lost.rows or 0,
            "scope": str(scope),
            "reason": lost.reason,
        },
    )
    # A loss that nobody can count is met again by every reader of the same instant.
    if widened.rowcount or _is_known(session, scope, lost):
        return None
    session.execute(
        "INSERT INTO gap (scope, reason, since_us, until_us, rows, detail, opened_us) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (str(scope), lost.reason, lost.since_us, lost.until_us, lost.rows, lost.detail, now_us),
    )
    _tell(session, Own.GAP_OPENED, scope, lost, now_us)
    return GapOpened(str(scope), lost.reason, lost.since_us, lost.until_us, lost.rows, lost.detail)


def _is_known(session: Session, scope: Scope, lost: Lost) -> bool:
    """Return True if a closed record covers a loss that nobody can count: it was read once more."""
    found = session.execute(
        "SELECT 1 FROM gap WHERE scope = ? AND reason = ? AND since_us <= ? AND until_us >= ?",
        (str(scope), lost.reason, lost.since_us, lost.until_us),
    ).fetchone()
    return lost.rows is None and found is not None


def close_gaps(
    session: Session, scope: Scope, now_us: int, reasons: Sequence[str] = ()
) -> list[GapClosed]:
    """Close the open records of a scope (of some reasons, or all) and tell the sinks."""
    chosen = f"AND reason IN ({', '.join('?' * len(reasons))}) " if reasons else ""
    closed = session.execute(
        f"UPDATE gap SET closed_us = ? WHERE scope = ? AND closed_us IS NULL {chosen}"
        "RETURNING reason, since_us, until_us, rows, detail",
        (now_us, str(scope), *reasons),
    ).fetchall()
    for row in closed:
        _tell(session, Own.GAP_CLOSED, scope, Lost(*row), now_us)
    return [GapClosed(str(scope), row[0], row[3]) for row in closed]


def count_gaps(session: Session) -> GapCount:
    """Return the size of the ledger."""
    return GapCount(
        *session.execute("SELECT count(*), count(*) - count(closed_us) FROM gap").fetchone()
    )


def latest_gaps(session: Session, limit: int) -> list[Gap]:
    """Return open records, then the latest closed ones, at most ``limit``."""
    found = session.execute(
        f"SELECT {_COLUMNS} FROM gap ORDER BY closed_us IS NOT NULL, id DESC LIMIT ?", (limit,)
    )
    return [Gap(*row) for row in found]


def list_gaps(session: Session) -> list[Gap]:
    """Return the whole ledger, oldest first."""
    found = session.execute(f"SELECT {_COLUMNS} FROM gap ORDER BY opened_us, id")
    return [Gap(*row) for row in found]


def _tell(session: Session, event: Own, scope: Scope, lost: Lost, now_us: int) -> None:
    row = own_row(
        event,
        now_us,
        stream=StreamKey(scope.account_id, scope.stream) if scope.stream else None,
        sink=scope.sink,
        reason=lost.reason,
        since_us=lost.since_us,
        until_us=lost.until_us,
        rows=lost.rows,
        detail=lost.detail,
    )
    append_own(session, scope.account_id, [row], now_us)


def append_own(
    session: Session, account_id: str, rows: Sequence[Mapping[str, Any]], now_us: int
) -> None:
    """Store events of the forwarder's own, as rows of the live lane."""
    if not rows:
        return
    identities = Identifier(account_id, FORWARDER_STREAM).identities(rows)
    records = [
        Record(orjson.dumps(row), now_us, identity, frozenset(row))
        for row, identity in zip(rows, identities, strict=True)
    ]
    # Always in the live lane: a gap in a backfill must not wait behind it.
    place = Place(stream_id(session, account_id, FORWARDER_STREAM), LIVE_LANE, now_us)
    insert_pages(session, place, Records.of(records))


class Loss(NamedTuple):
    """Offsets of one lane that a sink will not get, and the times of their rows."""

    lane: int
    start: int
    end: int
    since_us: int
    until_us: int


def lose(
    session: Session, sink: tuple[int, str], losses: Sequence[Loss], lost: Lost, now_us: int
) -> GapOpened | None:
    """Write down what a sink (number, name) will not get: each offset, and their count as a gap.

    ``losses`` must be offsets of stored rows that the sink had not done. ``lost`` gives the reason
    and the detail; its times are those of ``losses``, and so is its count unless it has one.
    Returns what to emit after the commit.
    """
    if not losses:
        return None
    for loss in losses:
        note_passed(session, sink[0], loss.lane, (loss.start, loss.end), lost.reason)
    total = Lost(
        lost.reason,
        min(loss.since_us for loss in losses),
        max(loss.until_us for loss in losses),
        sum(loss.end - loss.start for loss in losses) if lost.rows is None else lost.rows,
        lost.detail,
    )
    return note_loss(session, Scope(sink=sink[1]), total, now_us)


def note_passed(
    session: Session, sink: int, lane: int, offsets: tuple[int, int], reason: str
) -> None:
    """Write down a half-open range of offsets that a sink will not be given in a lane.

    What was noted of the same offsets before gives way: they stay disjoint, and the last word
    counts (a dead letter that was replayed, refused again and then discarded).
    """
    start, end = offsets
    if start >= end:
        return
    place = (sink, lane)
    # Disjoint ranges let an audit find the one that counts by bisection.
    older = session.execute(
        "DELETE FROM passed_over WHERE sink = ? AND lane = ? AND from_offset < ? "
        "AND end_offset > ? RETURNING from_offset, end_offset, reason",
        (*place, end, start),
    ).fetchall()
    for first, last, why in older:
        for part in ((first, start), (end, last)):
            if part[0] < part[1]:
                session.execute(_INSERT, (*place, *part, why))
    # Losses come page by page in order: nearly always this grows the last range.
    longer = session.execute(
        "UPDATE passed_over SET end_offset = ? "
        "WHERE sink = ? AND lane = ? AND reason = ? AND end_offset = ?",
        (end, *place, reason, start),
    )
    if not longer.rowcount:
        session.execute(_INSERT, (*place, start, end, reason))


def passed_by(session: Session, sink: str) -> list[Passed]:
    """Return all that a sink's places were moved past, by lane and offset."""
    found = session.execute(
        "SELECT lane.name, passed_over.from_offset, passed_over.end_offset, reason "
        "FROM passed_over JOIN lane ON lane.id = passed_over.lane "
        "WHERE sink = (SELECT id FROM sink WHERE name = ?) "
        "ORDER BY lane, passed_over.from_offset",
        (sink,),
    )
    return [Passed(*row) for row in found]


def forget_passed(session: Session) -> None:
    """Remove what lies before the oldest page: nobody can ask about those rows any more."""
    session.execute(
        "DELETE FROM passed_over WHERE end_offset <= "
        "(SELECT coalesce(min(first_offset), (SELECT next_offset FROM counter)) FROM page)"
    )
