"""One sink's place in the journal; implements ``delivery.queue.SinkQueue``."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import orjson

from forwarder.core.contracts import StoredPage
from forwarder.core.log import DeadLetter, Lane, Progress
from forwarder.core.timing import Clock
from forwarder.journal.dead_letters import bury, room
from forwarder.journal.reader import Shelf
from forwarder.journal.streams import lane_id
from forwarder.journal.tide import Tide
from forwarder.journal.writer import Writer

_LANES = """
SELECT lane.name, progress.prefix, progress.ranges, lane.end_offset
FROM progress JOIN lane ON lane.id = progress.lane
WHERE progress.sink = ? AND lane.state = 'open' ORDER BY lane.id
"""
_FINISH = """
UPDATE lane SET state = 'done' WHERE id = ? AND state = 'open' AND end_offset IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM progress WHERE lane = lane.id AND prefix < lane.end_offset)
"""


class SqliteSinkQueue:
    """Lanes, pages and progress of one sink."""

    def __init__(
        self, number: int, name: str, writer: Writer, shelf: Shelf, tide: Tide, clock: Clock
    ) -> None:
        """Made by ``Journal.sink_queue``; ``number`` is the sink's in the file."""
        self.name = name
        self._number = number
        self._writer = writer
        self._shelf = shelf
        self._tide = tide
        self._clock = clock
        self._pages_of: dict[str, int] = {}

    async def lanes(self) -> Sequence[Lane]:
        """Return the open lanes, live first."""
        found = await self._shelf.query(
            lambda connection: connection.execute(_LANES, (self._number,)).fetchall()
        )
        return [
            Lane(name, Progress(prefix, read_ranges(ranges)), end)
            for name, prefix, ranges, end in found
        ]

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Return pages from ``offset`` on; empty when there is nothing yet."""
        if lane not in self._pages_of:
            self._pages_of[lane] = await self._shelf.query(
                lambda connection: _pages_of(connection, lane)
            )
        return await self._shelf.pages(self._pages_of[lane], offset, max_rows)

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Store progress and dead letters together; durable when it returns."""
        now_us = self._clock.now_us()

        def store(connection: sqlite3.Connection) -> bool:
            number = lane_id(connection, lane)
            left = [one for one in dead if one.offset >= _prefix(connection, self._number, number)]
            bury(connection, self._number, left, now_us)
            save_progress(connection, self._number, number, progress)
            return connection.execute(_FINISH, (number,)).rowcount > 0

        if await self._writer.run(store, patient=True):
            self._tide.change_lanes()

    async def wait(self, lane: str, offset: int) -> None:
        """Return when there may be rows at ``offset``, or the lanes have changed."""
        await self._tide.wait(lane, offset)

    async def dead_letter_room(self) -> tuple[int, int]:
        """Return how many events and bytes the dead letters of this sink still take."""
        return await self._shelf.query(lambda connection: room(connection, self._number))


def _prefix(connection: sqlite3.Connection, sink: int, lane: int) -> int:
    """Return where a sink stands; what lies below was dropped, and the gap says so."""
    found = connection.execute(
        "SELECT prefix FROM progress WHERE sink = ? AND lane = ?", (sink, lane)
    ).fetchone()
    return 0 if found is None else int(found[0])


def _pages_of(connection: sqlite3.Connection, lane: str) -> int:
    found = connection.execute("SELECT pages_of FROM lane WHERE name = ?", (lane,)).fetchone()
    if found is None:
        raise LookupError(f"there is no lane {lane}")
    return int(found[0])


def read_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Return the half-open ranges of a stored progress."""
    return tuple((start, end) for start, end in orjson.loads(text))


def save_progress(connection: sqlite3.Connection, sink: int, lane: int, progress: Progress) -> None:
    """Store how far a sink is; never moves back behind what retention had to drop."""
    connection.execute(
        "UPDATE progress SET prefix = max(prefix, ?), ranges = ? WHERE sink = ? AND lane = ?",
        (progress.prefix, orjson.dumps(progress.ranges).decode(), sink, lane),
    )
