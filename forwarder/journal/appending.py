"""Appending a page inside the writer's transaction: what is new, where it goes, who read it."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import orjson

from forwarder.core.log import Addition, KeySet, ReaderState
from forwarder.core.source_contract import Records
from forwarder.journal.database import CorruptError
from forwarder.journal.pages import HOUR_US, PageRow, Place, buckets, insert_page, split_hashes

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
