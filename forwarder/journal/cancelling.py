"""What becomes of rows that nobody will deliver any more: a cancelled lane, a forgotten sink.

Every unfinished row of a cancelled lane goes one of three ways. A dead letter on its way once more
is a dead letter again. A row that no sink has received and that a reader is still to read is
forgotten, so that the reader finds it and every sink gets it. All others are lost for the sinks
that waited for them, and the ledger says so.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import NamedTuple

from forwarder.core.contracts import LIVE, Lost
from forwarder.core.errors import StateError
from forwarder.core.identity import SIZE
from forwarder.core.journal import Forgotten, LaneCancelled
from forwarder.core.log import DeadLetter
from forwarder.core.telemetry import TelemetryEvent
from forwarder.journal.dead_letters import give_back, store_letters
from forwarder.journal.lanes import (
    BACKFILL,
    CANCELLING,
    LETTERS,
    Standing,
    finish,
    remove_sink,
    standings,
    waiting_rows,
)
from forwarder.journal.ledger import (
    DISCARDED,
    EXPECTED_REFUSALS,
    LANE_CANCELLED,
    REFUSED,
    REMOVED,
    REPLAYED,
    Loss,
    Scope,
    close_gaps,
    lose,
    passed_by,
)
from forwarder.journal.storage import PageRow, Session, sink_id, unpack_times, write_page

_PAGES = """
SELECT '', '', first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, NULL FROM page WHERE lane = ? ORDER BY first_offset
"""
# What the sink's destination has seen, whatever became of it.
_SHOWN = frozenset({DISCARDED, EXPECTED_REFUSALS, REFUSED, REPLAYED})
_COME_BACK = "not delivered again: its replay was cancelled"


class Settled(NamedTuple):
    """The result of settling, and what to emit once the transaction is committed."""

    outcome: LaneCancelled
    events: Sequence[TelemetryEvent]


def cancel_lane(session: Session, name: str, now_us: int) -> Settled:
    """Settle every unfinished row of a stopped lane, and end it; runs in the writer."""
    found = session.execute(
        "SELECT id, kind FROM lane WHERE name = ? AND state = ?", (name, CANCELLING)
    ).fetchone()
    if found is None:
        raise StateError(f"no open lane is called {name}; `forwarder status` lists them")
    number, kind = found
    # Taken before any page is rewritten: the losses need the times of all rows.
    waiting = [
        (standing, waiting_rows(session, standing))
        for standing in standings(session, "AND lane.id = ?", (number,))
    ]
    found_again = _forget_unreceived(session, number, waiting) if kind == BACKFILL else set[int]()
    events: list[TelemetryEvent] = []
    lost, returned = 0, 0
    for standing, rows in waiting:
        if kind == LETTERS:
            returned += _return_letters(session, standing, rows, now_us)
        else:
            losses = [part for loss in rows for part in _without(loss, found_again)]
            lost += sum(loss.end - loss.start for loss in losses)
            events += _lose(session, standing, losses, now_us)
        # Whole, whoever got what: no later acknowledgement may change what was settled.
        finish(session, standing, [(standing.start, standing.end)])
    session.execute("UPDATE lane SET state = 'cancelled' WHERE id = ?", (number,))
    return Settled(LaneCancelled(name, len(found_again), lost, returned), events)


def _lose(
    session: Session, standing: Standing, losses: Sequence[Loss], now_us: int
) -> list[TelemetryEvent]:
    """Write the losses down and close the gap at once: nothing more is lost by this lane."""
    detail = f"{standing.lane_name} was cancelled; `forwarder backfill --again` reads it once more"
    gap = Lost(LANE_CANCELLED, 0, 0, None, detail)
    opened = lose(session, (standing.sink, standing.sink_name), losses, gap, now_us)
    scope = Scope(sink=standing.sink_name)
    closed = close_gaps(session, scope, now_us, [LANE_CANCELLED])
    return [*([opened] if opened else []), *closed]


def _return_letters(session: Session, standing: Standing, rows: Sequence[Loss], now_us: int) -> int:
    """Make what was replayed dead letters again, also in a lane of before letters were kept."""
    give_back(session, standing.sink, standing.lane, [(loss.start, loss.end) for loss in rows])
    offsets = [offset for loss in rows for offset in range(loss.start, loss.end)]
    letters = [DeadLetter(offset, _COME_BACK) for offset in offsets]
    store_letters(session, standing.sink, letters, now_us)
    return len(offsets)


def _without(loss: Loss, offsets: Collection[int]) -> list[Loss]:
    kept = [offset for offset in range(loss.start, loss.end) if offset not in offsets]
    return [loss._replace(start=run[0], end=run[-1] + 1) for run in _runs(kept)]


def _runs(offsets: Sequence[int]) -> list[list[int]]:
    """Group ascending offsets into runs without a hole."""
    keyed = groupby(enumerate(offsets), key=lambda pair: pair[1] - pair[0])
    return [[offset for _, offset in run] for _, run in keyed]


def _forget_unreceived(
    session: Session, lane: int, waiting: Sequence[tuple[Standing, Sequence[Loss]]]
) -> set[int]:
    """Remove rows that no sink received from a lane's pages; return those that come again.

    The others are lost. They are removed too, so that another backfill of their time, which the
    gap asks for, does not take them for known.
    """
    places = [standing for standing, _ in waiting]
    unseen = {one.sink: _never_shown(session, one) for one in places}
    outstanding = {
        offset for _, rows in waiting for loss in rows for offset in range(loss.start, loss.end)
    }
    bounds: dict[int, int | None] = {}
    found_again: set[int] = set()
    for page in [PageRow(*row) for row in session.execute(_PAGES, (lane,)).fetchall()]:
        offsets = range(page.first_offset, page.first_offset + page.length)
        gone = {
            offset
            for offset in outstanding.intersection(offsets)
            if not any(
                one.progress.holds(offset) and not _within(unseen[one.sink], offset)
                for one in places
            )
        }
        if not gone:
            continue
        # Its parts get checksums of their own; damage must not get a valid one.
        page.verify()
        if page.stream not in bounds:
            bounds[page.stream] = _read_by_all(session, page.stream)
        found_again |= _to_come(page, gone, bounds[page.stream])
        _rewrite(session, page, [offset for offset in offsets if offset not in gone])
    return found_again


def _never_shown(session: Session, standing: Standing) -> list[tuple[int, int]]:
    """Return the ranges that the sink is past although nobody sent them to it."""
    return [
        (passed.start, passed.end)
        for passed in passed_by(session, standing.sink_name)
        if passed.lane == standing.lane_name and passed.reason not in _SHOWN
    ]


def _within(ranges: Sequence[tuple[int, int]], offset: int) -> bool:
    return any(start <= offset < end for start, end in ranges)


def _read_by_all(session: Session, stream: int) -> int | None:
    """Return up to when every reader of all rows of a stream has read; None without a reader.

    A round under way that cannot say how far it is may be at its end.
    """
    found = session.execute(
        "SELECT covered_until_us, until_us, reached_us FROM reader "
        "WHERE stream = ? AND (name = ? OR name LIKE 'reconcile:%')",
        (stream, LIVE),
    ).fetchall()
    return min(
        (
            # Which row of a round under way was read is unknown; all of its window may have been.
            max(covered, (reached if reached is not None else until) or covered)
            for covered, until, reached in found
        ),
        default=None,
    )


def _to_come(page: PageRow, offsets: Collection[int], read_by_all_us: int | None) -> set[int]:
    """Return the offsets whose rows a reader is still to read."""
    # A row without a time is in no window that a reader is still to read.
    if page.timeless or read_by_all_us is None:
        return set()
    times = unpack_times(page.times)
    return {o for o in offsets if times[o - page.first_offset] > read_by_all_us}


def _rewrite(session: Session, page: PageRow, kept: Sequence[int]) -> None:
    """Leave only the identities of ``kept`` offsets; nobody reads a cancelled lane's bodies."""
    session.execute("DELETE FROM page WHERE first_offset = ?", (page.first_offset,))
    times = unpack_times(page.times)
    for run in _runs(kept):
        start, end = run[0] - page.first_offset, run[-1] + 1 - page.first_offset
        part: array[int] = times[start:end]
        small = (run[0], len(run), page.stream, page.lane, page.seen_us, page.timeless)
        write_page(
            session,
            (*small, min(part), max(part)),
            page.times[8 * start : 8 * end],
            page.hashes[SIZE * start : SIZE * end],
            None,
        )


def forget_sink(
    session: Session, name: str, now_us: int
) -> tuple[Forgotten, Sequence[TelemetryEvent]]:
    """Give up an absent sink: what it waited for and its dead letters become a gap."""
    number = sink_id(session, name)
    losses: list[Loss] = []
    for standing in standings(session, "AND sink.id = ?", (number,)):
        rows = waiting_rows(session, standing)
        if standing.kind == LETTERS:
            _return_letters(session, standing, rows, now_us)
        else:
            losses += rows
    letters = session.execute(
        "SELECT time_us FROM dead_letter WHERE sink = ?", (number,)
    ).fetchall()
    events = sum(loss.end - loss.start for loss in losses)
    # A dead letter has no offset of its own left to write down: it counts, and its sink goes.
    dead = [Loss(0, 0, 0, time_us, time_us) for (time_us,) in letters]
    gap = Lost(REMOVED, 0, 0, events + len(dead), "an operator gave the sink up")
    emitted: list[TelemetryEvent] = []
    opened = lose(session, (number, name), [*losses, *dead], gap, now_us)
    emitted += [opened] if opened else []
    emitted += close_gaps(session, Scope(sink=name), now_us)
    remove_sink(session, number)
    return Forgotten(events, len(dead)), emitted
