"""The journal as the runtime holds it: one writer, one reader, the sinks and streams on top."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from forwarder.core.contracts import LIVE, Lost, StreamKey
from forwarder.core.errors import StateError, TransientError
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal import lanes
from forwarder.journal.database import FILE_NAME, StateLock, Writer, check_quickly, connect_writer
from forwarder.journal.ledger import Scope, append_own, note_loss
from forwarder.journal.reader import FreshPages, JournalReader, LaneEnds, SqliteSinkQueue
from forwarder.journal.retention import (
    Keeping,
    Member,
    prune,
    stored_bytes,
    stored_rows,
    undelivered_bytes,
)
from forwarder.journal.storage import keep, next_offset, recall
from forwarder.journal.stream_log import SeenPages, SqliteStreamLog

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the journal holds: bytes a blocking sink still needs, of all bodies, of the file.

    ``stored_rows`` are those whose bodies are kept.
    """

    undelivered_bytes: int
    stored_bytes: int
    file_bytes: int
    stored_rows: int


class Journal:
    """The one journal of a running daemon; opened once, closed last."""

    def __init__(
        self,
        state_dir: Path,
        keeping: Keeping,
        clock: Clock,
        emit: Emit,
        held: tuple[StateLock, sqlite3.Connection],
    ) -> None:
        """Use ``Journal.open``."""
        self.path = state_dir / FILE_NAME
        self._keeping = keeping
        self._clock = clock
        self._emit = emit
        self._lock, connection = held
        self._seen = SeenPages()
        self._ends = LaneEnds()
        self._members: dict[str, Member] = {}
        self._ends.lane_grew(LIVE, next_offset(connection))
        self._writer = Writer(connection, self.path, self._seen.clear)
        self._fresh = FreshPages()
        self._reader = JournalReader(state_dir, self._fresh)

    @classmethod
    async def open(cls, state_dir: Path, keeping: Keeping, *, clock: Clock, emit: Emit) -> Self:
        """Take the lock, open or create the file, look whether it is whole.

        Raises ``ConfigError``, ``LockedError``, ``DamagedError``, ``StateError`` or
        ``TransientError``; nothing was changed then.
        """
        lock = StateLock(state_dir, clock.now_us())
        try:
            connection = await asyncio.to_thread(_open_whole, state_dir)
        except BaseException:
            lock.release()
            raise
        return cls(state_dir, keeping, clock, emit, (lock, connection))

    async def aclose(self) -> None:
        """Finish writing, close the file, give the folder back; idempotent.

        The reader goes first: SQLite folds its write-ahead log into the file when the last
        connection closes, and a read-only one cannot.
        """
        await self._reader.aclose()
        await self._writer.aclose()
        self._lock.release()

    @property
    def trouble(self) -> TransientError | None:
        """Return why nothing can be written at present (a full disk, a lost volume), or None."""
        return self._writer.trouble

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Run a reading function of this package (``list_gaps``, ``list_lanes``, ...)."""
        return await self._reader.query(question)

    async def tell(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run a writing function of this package in a transaction; then wake the sinks."""
        result = await self._writer.run(operation)
        self._ends.lane_grew(LIVE, await self.ask(next_offset))
        self._ends.lanes_changed()
        return result

    def stream_log(self, key: StreamKey) -> SqliteStreamLog:
        """Return the log of one stream."""
        return SqliteStreamLog(key, self._writer, self._seen, self._ends, self._emit, self._fresh)

    async def sink_queue(
        self, name: str, *, start_at: lanes.StartAt = "now", blocking: bool = True
    ) -> SqliteSinkQueue:
        """Return a sink's place; from now on the sink counts for the gate and for pruning.

        A sink that comes back and whose rows are gone meanwhile gets a gap for them.
        """
        now_us = self._clock.now_us()

        def join(connection: sqlite3.Connection) -> tuple[int, Any]:
            number = lanes.join_sink(connection, name, start_at, now_us)
            missed = lanes.missed_rows(connection, number)
            if missed is None:
                return number, None
            rows, since_us, until_us = missed
            lost = Lost("sink_was_removed", since_us, until_us, rows, "not kept that long")
            return number, note_loss(connection, Scope(sink=name), lost, now_us)

        number, opened = await self._writer.run(join)
        if opened is not None:
            self._ends.lane_grew(LIVE, await self.ask(next_offset))
            self._emit(opened)
        self._members[name] = Member(number, name, blocking)
        return SqliteSinkQueue(
            number, name, self._writer, self._reader, self._ends, self._clock, self._emit
        )

    def leave(self, name: str) -> None:
        """A sink left the settings: its place is kept and pins nothing."""
        self._members.pop(name, None)

    async def maintain(self) -> None:
        """Prune one portion; the runtime calls it every few seconds."""
        members, now_us = list(self._members.values()), self._clock.now_us()
        events = await self._writer.run(
            lambda connection: prune(connection, members, self._keeping, now_us), patient=True
        )
        self._ends.lane_grew(LIVE, await self.ask(next_offset))
        for event in events:
            self._emit(event)

    async def undelivered_bytes(self) -> int:
        """Return what the gate measures."""
        members = list(self._members.values())
        return await self.ask(lambda connection: undelivered_bytes(connection, members))

    async def usage(self) -> Usage:
        """Return the sizes for metrics and status."""
        members = list(self._members.values())

        def measure(connection: sqlite3.Connection) -> Usage:
            return Usage(
                undelivered_bytes(connection, members),
                stored_bytes(connection),
                _size(self.path),
                stored_rows(connection),
            )

        return await self.ask(measure)

    async def places(self) -> list[lanes.SinkPlace]:
        """Return every sink's place and backlog, orphaned ones too."""
        running = frozenset(self._members)
        return await self.ask(lambda connection: lanes.places(connection, running))

    async def append_own(self, account_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store events of the forwarder's own (start, stop, reload) for the sinks."""
        now_us = self._clock.now_us()
        await self.tell(lambda connection: append_own(connection, account_id, rows, now_us))

    async def open_backfill(self, name: str, spec: Mapping[str, Any], sinks: Sequence[str]) -> None:
        """Add a backfill lane for some running sinks, or for all when none is named."""
        unknown = [sink for sink in sinks if sink not in self._members]
        if unknown:
            raise StateError(f"no running sink is called {', '.join(unknown)}")
        numbers = [self._members[sink].number for sink in sinks or self._members]
        now_us, partial = self._clock.now_us(), len(set(numbers)) < len(self._members)
        await self.tell(
            lambda c: lanes.open_backfill(c, name, spec, numbers, now_us, partial=partial)
        )

    async def recall(self, key: str) -> Any | None:
        """Return a JSON value of the runtime's own (a rate block), or None."""
        return await self.ask(lambda connection: recall(connection, "runtime", key))

    async def keep(self, key: str, value: Any) -> None:
        """Keep a small JSON value of the runtime's own."""
        await self._writer.run(
            lambda connection: keep(connection, "runtime", key, value), patient=True
        )


def _size(path: Path) -> int:
    """Return the bytes on disk of the file and of the write-ahead log beside it."""
    log = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _open_whole(state_dir: Path) -> sqlite3.Connection:
    """Open the file for writing and look whether it is whole."""
    connection = connect_writer(state_dir)
    try:
        check_quickly(connection, state_dir / FILE_NAME)
    except BaseException:
        connection.close()
        raise
    return connection
