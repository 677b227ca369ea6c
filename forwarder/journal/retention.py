"""What is kept and what goes: bodies after delivery, identities after readers and audits.

A page goes in two steps. Its body is emptied when every running sink has passed it and
``keep_delivered`` is over, or sooner when space is needed. The page itself, with its identities,
goes when no reader can be shown its rows again and a day's audit is over.

Whoever empties a body settles it with every sink the journal knows, in the same transaction: what a
sink still waited for is a loss of that sink in that lane.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from forwarder.core.contracts import FORWARDER_STREAM, LIVE, Lost, StreamKey
from forwarder.core.journal import JournalPruned, Keeping, RowsDropped
from forwarder.core.telemetry import TelemetryEvent
from forwarder.journal.dead_letters import give_back
from forwarder.journal.lanes import (
    BACKFILL,
    LETTERS,
    REPLAY,
    Standing,
    finish,
    holders,
    standings,
)
from forwarder.journal.ledger import (
    DROPPED,
    REMOVED,
    REPLAY_DROPPED,
    Loss,
    Scope,
    close_gaps,
    forget_passed,
    lose,
)
from forwarder.journal.storage import HOUR_US, Session, keep, recall

_DAY_US = 24 * HOUR_US
_AUDITED_US = 26 * HOUR_US
"""Identities stay at least so long behind the newest reader: a day can be verified at leisure."""
_CHUNK = 500
_FORGOTTEN = "forgotten_until_us"
_ALL_KINDS = (LIVE, BACKFILL, REPLAY, LETTERS)
_DETAILS = {
    REMOVED: "not kept that long while the sink was not in the settings",
    DROPPED: "the journal was full",
    REPLAY_DROPPED: "the journal needed the room; replay again what is still kept",
}


class Member(NamedTuple):
    """A sink that runs now: its number, its name, and whether it may hold the gate."""

    number: int
    name: str
    blocking: bool


class _Body(NamedTuple):
    """A stored page whose body is there; ``end`` is the offset after its last row."""

    first: int
    end: int
    lane: int
    size: int
    tmin_us: int
    tmax_us: int


Held = dict[int, list[tuple[int, int]]]


def undelivered_bytes(session: Session, members: Iterable[Member]) -> int:
    """Return the bytes of bodies that a blocking sink still needs: what the gate measures.

    Replays do not count. They read what was delivered once, and a replay to a sink that is out
    would stop reading for every sink.
    """
    blocking = {member.number for member in members if member.blocking}
    total = 0
    for lane, ranges in holders(session, blocking, (LIVE, BACKFILL)).items():
        total += session.execute(
            "SELECT coalesce(sum(size), 0) FROM page WHERE lane = ? AND first_offset + count > ?",
            (lane, min(start for start, _ in ranges)),
        ).fetchone()[0]
    return int(total)


def stored_bytes(session: Session) -> int:
    """Return the bytes of all bodies in the journal."""
    return int(session.execute("SELECT coalesce(sum(size), 0) FROM page").fetchone()[0])


def stored_rows(session: Session) -> int:
    """Return the number of rows whose bodies are in the journal."""
    found = session.execute("SELECT coalesce(sum(count), 0) FROM page WHERE size > 0")
    return int(found.fetchone()[0])


def share_of_excess(stored: int, elsewhere: int, room: int) -> int:
    """Return the bytes that a shard must free: its part of an excess; negative if there is room."""
    excess = stored + elsewhere - room
    return -(-excess * stored // (stored + elsewhere)) if elsewhere and excess > 0 else excess


def prune(
    session: Session,
    members: Sequence[Member],
    keeping: Keeping,
    now_us: int,
    elsewhere: int = 0,
    awaited: Collection[str] = (),
) -> list[TelemetryEvent]:
    """Empty, drop and remove one portion of what need not be kept; called every few seconds.

    ``elsewhere`` are the bytes of bodies in other shards: each shard frees its part of an excess.
    ``awaited`` sinks do not run, and are still waited for.
    Runs inside a writer's transaction. Returns what to emit once it is committed.
    """
    if absent := {*awaited} - {member.name for member in members}:
        known = session.execute("SELECT id, name FROM sink").fetchall()
        others = [Member(number, name, blocking=True) for number, name in known if name in absent]
        members = [*members, *others]
    # Bodies, not the file: freed pages stay in the file and are used again.
    stored = stored_bytes(session)
    excess = share_of_excess(stored, elsewhere, keeping.room)
    chosen = _delivered(session, members, excess, now_us - keeping.keep_delivered_us, now_us)
    freed = sum(body.size for body in chosen)
    if excess > freed:
        chosen += _in_the_way(session, members, excess - freed, chosen, now_us)
    events = _settle(session, members, chosen, now_us)
    for body in chosen:
        session.execute(
            "UPDATE page SET size = 0, body = NULL WHERE first_offset = ?", (body.first,)
        )
    removed = _remove_forgotten(session, now_us, keeping)
    if chosen or removed:
        events.append(JournalPruned(len(chosen), removed, sum(body.size for body in chosen)))
    return events


def _candidates(session: Session, held: Held, seen_before_us: int) -> list[_Body]:
    """Return stored bodies that nobody in ``held`` needs, the oldest first.

    What is held is left out before the limit: a backlog of one lane must not hide what may go.
    """
    needs = [(lane, start, end) for lane, ranges in held.items() for start, end in ranges]
    free = "AND NOT (lane = ? AND first_offset + count > ? AND first_offset < ?) " * len(needs)
    found = session.execute(
        "SELECT first_offset, first_offset + count, lane, size, tmin_us, tmax_us FROM page "
        f"WHERE size > 0 AND seen_us < ? {free}ORDER BY first_offset LIMIT ?",
        (seen_before_us, *(value for need in needs for value in need), _CHUNK),
    )
    return [_Body(*row) for row in found]


def _delivered(
    session: Session, members: Sequence[Member], excess: int, old_us: int, now_us: int
) -> list[_Body]:
    """Choose what every running sink has passed and that is old enough, or in the way."""
    held = holders(session, {member.number for member in members}, _ALL_KINDS)
    chosen = _candidates(session, held, old_us)
    freed = sum(body.size for body in chosen)
    # Delivered rows that are kept for replays make room before anybody loses a row.
    if freed < excess:
        known = {body.first for body in chosen}
        for body in _candidates(session, held, now_us + _DAY_US):
            if freed >= excess:
                break
            if body.first not in known:
                chosen.append(body)
                freed += body.size
    return chosen


def _in_the_way(
    session: Session,
    members: Sequence[Member],
    excess: int,
    chosen: Sequence[_Body],
    now_us: int,
) -> list[_Body]:
    """Choose what replays wait for, then best-effort sinks; never a blocking sink's rows."""
    numbers = {member.number for member in members}
    blocking = {member.number for member in members if member.blocking}
    known, found = {body.first for body in chosen}, list[_Body]()
    # First only replays lose, then best-effort sinks as well.
    for sinks in (numbers, blocking):
        held = holders(session, sinks, (LIVE, BACKFILL))
        for body in _candidates(session, held, now_us + _DAY_US):
            if excess <= 0:
                return found
            if body.first not in known:
                known.add(body.first)
                found.append(body)
                excess -= body.size
    return found


def _settle(
    session: Session, members: Sequence[Member], bodies: Sequence[_Body], now_us: int
) -> list[TelemetryEvent]:
    """Settle bodies that are about to go with every sink that still waits for them."""
    running = {member.number for member in members}
    losses: dict[tuple[int, str, str], list[Loss]] = {}
    for one in standings(session) if bodies else ():
        mine = [
            Loss(one.lane, *hole, body.tmin_us, body.tmax_us)
            for body in bodies
            if body.lane == one.pages_of
            for hole in one.outstanding(body.first, body.end)
        ]
        if not mine:
            continue
        holes = [(loss.start, loss.end) for loss in mine]
        if one.kind == LETTERS:
            give_back(session, one.sink, one.lane, holes)
        else:
            reason = _reason(one, running)
            losses.setdefault((one.sink, one.sink_name, reason), []).extend(mine)
        # At once, not when it asks: until then the rows would be neither waiting nor lost.
        finish(session, one, holes)
    events: list[TelemetryEvent] = []
    for (sink, name, reason), lost in losses.items():
        gap = Lost(reason, 0, 0, None, _DETAILS[reason])
        opened = lose(session, (sink, name), lost, gap, now_us)
        if reason == DROPPED:
            events.append(RowsDropped(name, sum(loss.end - loss.start for loss in lost)))
        events += [opened] if opened else []
    return events + _close(session, members, {(name, why) for _, name, why in losses}, now_us)


def _reason(standing: Standing, running: set[int]) -> str:
    if standing.sink not in running:
        return REMOVED
    return REPLAY_DROPPED if standing.kind == REPLAY else DROPPED


def _close(
    session: Session, members: Sequence[Member], losing: set[tuple[str, str]], now_us: int
) -> list[TelemetryEvent]:
    """Close the gaps of running sinks that lose nothing more to room."""
    found = session.execute(
        "SELECT scope, reason FROM gap WHERE closed_us IS NULL AND reason IN (?, ?)",
        (DROPPED, REPLAY_DROPPED),
    ).fetchall()
    names = {str(Scope(sink=member.name)): member.name for member in members}
    return [
        event
        for scope, reason in found
        if scope in names and (names[scope], reason) not in losing
        for event in close_gaps(session, Scope(sink=names[scope]), now_us, [reason])
    ]


def _remove_forgotten(session: Session, now_us: int, keeping: Keeping) -> int:
    """Remove emptied pages whose rows no reader can be shown, nor an audit of a day ask about.

    Judged by the rows' own times against the readers' places, both the server's; our clock, which
    may be wrong, decides only where there is no such time: a page without times, and one dated
    more than a day ahead of every reader, go two days after they were seen.
    """
    found = session.execute(
        "SELECT stream, min(covered_until_us), max(covered_until_us) FROM reader GROUP BY stream"
    ).fetchall()
    removed = 0
    for stream, slowest_us, newest_us in found:
        unread = min(slowest_us - 2 * HOUR_US, newest_us - _AUDITED_US)
        # A page that an operator may still replay is kept whatever the readers say.
        bound = min(unread, now_us - keeping.keep_delivered_us)
        times_us = session.execute(
            "DELETE FROM page WHERE first_offset IN (SELECT first_offset FROM page "
            "WHERE stream = :stream AND size = 0 AND CASE "
            "WHEN timeless = 1 OR tmax_us > :ahead THEN seen_us + :grace ELSE tmax_us END < :bound "
            "ORDER BY first_offset LIMIT :chunk) RETURNING tmax_us",
            {
                "stream": stream,
                "ahead": newest_us + _DAY_US,
                "grace": 2 * _DAY_US,
                "bound": bound,
                "chunk": _CHUNK,
            },
        ).fetchall()
        removed += len(times_us)
        _note_forgotten(session, stream, [at for (at,) in times_us if at < bound])
    removed += _remove_own(session, now_us - max(2 * _DAY_US, keeping.keep_delivered_us))
    if removed:
        forget_passed(session)
    return removed


def _remove_own(session: Session, seen_before_us: int) -> int:
    """Remove emptied pages of the forwarder's own events: nobody reads those again."""
    return session.execute(
        "DELETE FROM page WHERE first_offset IN (SELECT first_offset FROM page WHERE size = 0 "
        "AND seen_us < ? AND stream IN (SELECT id FROM stream WHERE name = ?) "
        "ORDER BY first_offset LIMIT ?)",
        (seen_before_us, FORWARDER_STREAM, _CHUNK),
    ).rowcount


def forgotten_until(session: Session, key: StreamKey) -> int | None:
    """Return up to when a stream's rows may have been forgotten, None as long as all are known."""
    found: int | None = recall(session, str(key), _FORGOTTEN)
    return found


def _note_forgotten(session: Session, stream: int, times_us: Sequence[int]) -> None:
    """Keep the latest time of the pages that went; wrong times in the future say nothing."""
    key = StreamKey(
        *session.execute("SELECT account_id, name FROM stream WHERE id = ?", (stream,)).fetchone()
    )
    # Never back: pages go in the order of offsets, and late rows have early times.
    latest = max((*times_us, forgotten_until(session, key) or 0))
    if times_us:
        keep(session, str(key), _FORGOTTEN, latest)
