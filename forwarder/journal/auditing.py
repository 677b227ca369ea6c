"""What became of rows that the API shows: delivered, dead, waiting or missing, sink by sink."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from forwarder.core.contracts import Record, StoredPage, StreamKey, Window
from forwarder.core.journal import CANCELLED, Fate, Verdict
from forwarder.core.log import Progress
from forwarder.journal.lanes import NO_END, read_ranges
from forwarder.journal.ledger import BEFORE_START, WITH_INTENT
from forwarder.journal.retention import forgotten_until
from forwarder.journal.storage import (
    HOUR_US,
    PageRow,
    Session,
    buckets,
    split_hashes,
    to_stored,
)

_PAGES = """
SELECT first_offset, lane, hashes FROM page WHERE stream = :stream AND timeless = 0
AND tmax_us BETWEEN :low AND :until AND tmin_us <= :high
"""
_TOUCHING = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream
WHERE account_id = :account AND name = :name AND timeless = 0 AND first_offset >= :start
AND tmax_us BETWEEN :low AND :until AND tmin_us <= :high ORDER BY first_offset LIMIT 16
"""
_TIMELESS = "SELECT first_offset, lane, hashes FROM page WHERE stream = ? AND timeless = 1"
_ORDER = ("dead", "delivered", "waiting", "skipped", "missing")
"""Which fate counts for a row that is stored at several places."""


def touching(
    session: Session, key: StreamKey, window: Window, start: int
) -> list[StoredPage] | None:
    """Return some pages of a stream that touch a window, from offset ``start`` on, in order.

    None if rows of that time may be gone, or their bodies are.
    """
    if window.since_us <= (forgotten_until(session, key) or 0):
        return None
    among = {"account": key.account_id, "name": key.stream, "start": start}
    times = {"low": window.since_us, "high": window.until_us, "until": window.until_us + HOUR_US}
    found = [PageRow(*row) for row in session.execute(_TOUCHING, {**among, **times})]
    return None if any(row.body is None for row in found) else list(map(to_stored, found))


def judge(
    session: Session,
    key: StreamKey,
    records: Sequence[Record],
    aliases: Mapping[int, Sequence[bytes]],
    sinks: Collection[str],
    unread_us: int | None,
) -> dict[str, Verdict]:
    """Return a verdict a sink over the rows of one page that the API shows."""
    found = session.execute(
        "SELECT id FROM stream WHERE account_id = ? AND name = ?", (key.account_id, key.stream)
    ).fetchone()
    places = {} if found is None else _places(session, int(found[0]), records, aliases)
    forgotten_us = forgotten_until(session, key)
    unknown = [_unknown(record.time_us, forgotten_us, unread_us) for record in records]
    times_us = [record.time_us for record in records]
    verdicts = {}
    for sink in sinks:
        fate = _Fates(session, sink).of
        fates = [fate(places.get(at, ()), unknown[at]) for at in range(len(records))]
        verdicts[sink] = _counted(fates, times_us)
    return verdicts


def _places(
    session: Session,
    stream: int,
    records: Sequence[Record],
    aliases: Mapping[int, Sequence[bytes]],
) -> dict[int, list[tuple[int, int]]]:
    """Return, by record index, every (lane, offset) where the row is stored."""
    places: dict[int, list[tuple[int, int]]] = {}
    times_us = [record.time_us for record in records]
    for bucket, indices in buckets(times_us, range(len(records))).items():
        stored = _stored(session, stream, records, None if bucket is None else indices)
        for index in indices:
            names = (records[index].identity, *aliases.get(index, ()))
            at = [place for name in names for place in stored.get(name, ())]
            if at:
                places[index] = at
    return places


def _stored(
    session: Session,
    stream: int,
    records: Sequence[Record],
    indices: Sequence[int] | None,
) -> dict[bytes, list[tuple[int, int]]]:
    if indices is None:
        found = session.execute(_TIMELESS, (stream,))
    else:
        times = [records[index].time_us or 0 for index in indices]
        bounds = {"low": min(times), "high": max(times), "until": max(times) + HOUR_US}
        found = session.execute(_PAGES, {"stream": stream, **bounds})
    stored: dict[bytes, list[tuple[int, int]]] = {}
    for first, lane, hashes in found:
        for index, identity in enumerate(split_hashes(hashes)):
            stored.setdefault(identity, []).append((lane, first + index))
    return stored


def _unknown(time_us: int | None, forgotten_us: int | None, unread_us: int | None) -> Fate:
    """Return the fate of a row that is not stored; one without a time may be of any."""
    if time_us is not None and unread_us is not None and time_us > unread_us:
        return "waiting"
    if forgotten_us is None or (time_us is not None and time_us > forgotten_us):
        return "missing"
    return "forgotten"


class _Passed(NamedTuple):
    """A range that the sink was moved past in a lane."""

    lane: int
    start: int
    end: int
    reason: str


class _Unit(NamedTuple):
    """A lane that reads some lane's pages for the sink: that lane itself, or a replay of it."""

    lane: int
    start: int
    end: int
    over: bool
    progress: Progress


class _Fates:
    """What the journal knows of one sink, loaded once for a page of rows."""

    def __init__(self, session: Session, sink: str) -> None:
        found = session.execute("SELECT id FROM sink WHERE name = ?", (sink,)).fetchone()
        number = None if found is None else int(found[0])
        self._passed = [
            _Passed(*row)
            for row in session.execute(
                "SELECT lane, from_offset, end_offset, reason FROM passed_over "
                "WHERE sink = ? ORDER BY lane, from_offset",
                (number,),
            )
        ]
        # A dead letter that is being sent again waits in its lane.
        self._dead = {
            offset
            for (offset,) in session.execute(
                "SELECT row_offset FROM dead_letter WHERE sink = ? AND lane IS NULL", (number,)
            )
        }
        self._units: dict[int, list[_Unit]] = {}
        for row in session.execute(
            "SELECT lane.pages_of, lane.id, from_offset, end_offset, state, prefix, ranges "
            "FROM progress JOIN lane ON lane.id = progress.lane WHERE sink = ?",
            (number,),
        ):
            pages_of, lane, start, end, state, prefix, ranges = row
            progress = Progress(prefix, read_ranges(ranges))
            unit = _Unit(lane, start, NO_END if end is None else end, state == CANCELLED, progress)
            self._units.setdefault(pages_of, []).append(unit)

    def of(self, places: Sequence[tuple[int, int]], unknown: Fate) -> Fate:
        """Return the fate of a row that is stored at these places, ``unknown`` if at none."""
        # A row is stored more than once after `backfill --again`; the best place counts.
        fates = [fate for lane, offset in places for fate in self._at(lane, offset)]
        return min(fates, key=_ORDER.index, default=unknown)

    def _at(self, lane: int, offset: int) -> list[Fate]:
        if offset in self._dead:
            return ["dead"]
        # What a replay leaves out was emptied before it began: the lane itself says what became
        # of that row.
        fates: list[Fate] = [
            self._in(unit, offset)
            for unit in self._units.get(lane, ())
            if unit.start <= offset < unit.end
            and (unit.lane == lane or self._why(unit.lane, offset) != BEFORE_START)
        ]
        if not any(unit.lane == lane for unit in self._units.get(lane, ())):
            # The sink does not read this lane. What it stored before the sink came is not owed.
            fates.append("skipped" if self._why(lane, offset) in WITH_INTENT else "missing")
        return fates

    def _in(self, unit: _Unit, offset: int) -> Fate:
        reason = self._why(unit.lane, offset)
        if reason is not None:
            return "skipped" if reason in WITH_INTENT else "missing"
        if unit.progress.holds(offset):
            return "delivered"
        return "missing" if unit.over else "waiting"

    def _why(self, lane: int, offset: int) -> str | None:
        """Return why the sink was moved past an offset, None if it was not."""
        at = bisect_right(self._passed, (lane, offset), key=lambda one: (one.lane, one.start)) - 1
        over = self._passed[at] if at >= 0 else None
        inside = over is not None and over.lane == lane and over.start <= offset < over.end
        return over.reason if over is not None and inside else None


def _counted(fates: Sequence[Fate], times_us: Sequence[int | None]) -> Verdict:
    lost = [time_us for time_us, fate in zip(times_us, fates, strict=True) if fate == "missing"]
    timed = [time_us for time_us in lost if time_us is not None]
    return Verdict(
        shown=len(fates),
        **Counter[str](fates),
        first_missing_us=min(timed, default=None),
        last_missing_us=max(timed, default=None),
    )
