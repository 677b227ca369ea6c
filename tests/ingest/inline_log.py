"""The real journal code on a real file, in this thread: every step in a known order.

The threads of the journal have tests of their own; here the order of events must be the same in
every run, and a crash must come exactly between two steps.
"""

import asyncio
from pathlib import Path
from typing import Any, TypeVar

from forwarder.core.contracts import StoredPage, StreamKey
from forwarder.core.errors import TransientError
from forwarder.core.journal import Gap, Keeping
from forwarder.core.telemetry import ignore
from forwarder.journal.database import SqliteEngine, SqliteSession
from forwarder.journal.ledger import list_gaps
from forwarder.journal.reader import LaneEnds, PageCache
from forwarder.journal.retention import forgotten_until, prune
from forwarder.journal.schema import prepare
from forwarder.journal.storage import PageRow, to_stored
from forwarder.journal.stream_log import JournalStreamLog, SeenPages
from forwarder.journal.writer import Operation, Writer
from tests.ingest.virtual_time import VirtualClock

T = TypeVar("T")
_PAGES = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream
WHERE first_offset >= ? AND lane = 1 ORDER BY first_offset
"""


class InlineWriter(Writer):
    """Commits each operation at once; can crash before or after a commit, or find no room."""

    def __init__(self, file: SqliteSession, seen: SeenPages, clock: VirtualClock) -> None:
        self._file = file
        self._seen = seen
        self._clock = clock
        self.steps_to_crash: int | None = None
        self.crash_after_commit = False
        self.dead = False
        self.failures = 0

    async def run(self, operation: Operation[T], *, patient: bool = False) -> T:
        del patient
        await asyncio.sleep(0)
        self._clock.activity += 1
        crash = self._is_crash()
        if self.dead and not (crash and self.crash_after_commit):
            await asyncio.get_running_loop().create_future()
        result = self._carry_out(operation)
        if self.dead:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)
        return result

    def _is_crash(self) -> bool:
        if self.dead or self.steps_to_crash is None:
            return False
        self.steps_to_crash -= 1
        self.dead = self.steps_to_crash < 0
        return self.dead

    def _find_room(self) -> None:
        if self.failures:
            self.failures -= 1
            raise TransientError("database or disk is full")

    def _carry_out(self, operation: Operation[T]) -> T:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            result = operation(self._file)
            self._find_room()
        except BaseException:
            self._file.execute("ROLLBACK")
            self._seen.clear()
            raise
        self._file.execute("COMMIT")
        return result


class InlineJournal:
    """A journal file with the log of one stream; ``drain`` plays the one sink."""

    def __init__(
        self, state_dir: Path, key: StreamKey, clock: VirtualClock, seen: SeenPages | None = None
    ) -> None:
        engine = SqliteEngine(state_dir)
        self._file = engine.writing()
        prepare(self._file, engine, clock.now_us())
        self._file.execute("PRAGMA synchronous = OFF")
        seen = seen or SeenPages()
        self._clock = clock
        self.writer = InlineWriter(self._file, seen, clock)
        self.log = JournalStreamLog(key, self.writer, seen, LaneEnds(), ignore, PageCache())
        self._key = key

    def drain(self, offset: int, *, keep_us: int | None = None) -> list[StoredPage]:
        """Return the live pages from ``offset`` on; with ``keep_us`` let retention work then."""
        found = self._file.execute(_PAGES, (offset,)).fetchall()
        pages = [to_stored(PageRow(*row)) for row in found if row[-1] is not None]
        if keep_us is not None:
            self._file.execute("BEGIN")
            prune(self._file, [], Keeping(2**40, keep_us), self._clock.now_us())
            self._file.execute("COMMIT")
        return pages

    def gaps(self) -> list[Gap]:
        return list_gaps(self._file)

    def forgotten_until(self) -> int | None:
        return forgotten_until(self._file, self._key)

    def readers(self) -> dict[str, Any]:
        return dict(self._file.execute("SELECT name, covered_until_us FROM reader").fetchall())

    def close(self) -> None:
        self._file.close()
