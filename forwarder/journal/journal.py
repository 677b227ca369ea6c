"""The journal over an SQL engine: one writer, one reader, the queues and the logs on top.

Implements the contract in ``core.journal``. ``sqlite`` and ``postgres`` open it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self, TypeVar

from forwarder.core.contracts import LIVE, Record, StoredPage, StreamKey, Window
from forwarder.core.errors import StateError, TransientError
from forwarder.core.journal import (
    Cursor,
    Forgotten,
    Gap,
    GapCount,
    Keeping,
    LaneCancelled,
    LaneRecord,
    LetterGroup,
    Passed,
    SinkPlace,
    SinkRecord,
    StartAt,
    StoredLetter,
    Usage,
    Verdict,
    check_moment,
)
from forwarder.core.log import KeySet
from forwarder.core.telemetry import Emit, TelemetryEvent
from forwarder.core.timing import Clock
from forwarder.journal import dead_letters, lanes, ledger, retention, stream_log
from forwarder.journal.auditing import judge, touching
from forwarder.journal.cancelling import cancel_lane, forget_sink
from forwarder.journal.reader import JournalQueue, JournalReader, LaneEnds, PageCache
from forwarder.journal.retention import Member
from forwarder.journal.storage import Engine, Session, keep, next_offset, recall
from forwarder.journal.writer import Writer

T = TypeVar("T")


class SqlJournalView:
    """Reads the journal; see ``core.journal.JournalView``."""

    def __init__(self, reader: JournalReader) -> None:
        """Ask ``reader``."""
        self._reader = reader

    async def aclose(self) -> None:
        """Give the connection back; idempotent."""
        await self._reader.aclose()

    @property
    def _running(self) -> Collection[str] | None:
        """Return the running sinks; None: whoever reads only does not know."""
        return None

    async def sinks(self) -> Sequence[SinkRecord]:
        """See ``JournalView``."""
        return await self._reader.query(lanes.list_sinks)

    async def places(self) -> Sequence[SinkPlace]:
        """See ``JournalView``."""
        return await self._reader.query(lambda session: lanes.places(session, self._running))

    async def lanes(self) -> Sequence[LaneRecord]:
        """See ``JournalView``."""
        return await self._reader.query(lambda session: lanes.list_lanes(session, self._running))

    async def cursors(self) -> Sequence[Cursor]:
        """See ``JournalView``."""
        return await self._reader.query(stream_log.list_cursors)

    async def gaps(self) -> Sequence[Gap]:
        """See ``JournalView``."""
        return await self._reader.query(ledger.list_gaps)

    async def latest_gaps(self, limit: int) -> Sequence[Gap]:
        """See ``JournalView``."""
        return await self._reader.query(lambda session: ledger.latest_gaps(session, limit))

    async def count_gaps(self) -> GapCount:
        """See ``JournalView``."""
        return await self._reader.query(ledger.count_gaps)

    async def letters(
        self, *, sink: str | None = None, letter_id: int | None = None, limit: int | None = None
    ) -> Sequence[StoredLetter]:
        """See ``JournalView``."""
        return await self._reader.query(
            lambda session: dead_letters.list_letters(
                session, sink=sink, letter_id=letter_id, limit=limit
            )
        )

    async def summarise_letters(self, limit: int) -> Sequence[LetterGroup]:
        """See ``JournalView``."""
        return await self._reader.query(
            lambda session: dead_letters.summarise_letters(session, limit)
        )

    async def count_letters(self) -> Mapping[str, int]:
        """See ``JournalView``."""
        return await self._reader.query(dead_letters.count_letters)

    async def passed_over(self, sink: str) -> Sequence[Passed]:
        """See ``JournalView``."""
        return await self._reader.query(lambda session: ledger.passed_by(session, sink))

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """See ``JournalView``."""
        return await self._reader.pages(lane, offset, max_rows)

    async def key_sets(self, key: StreamKey) -> Sequence[KeySet]:
        """See ``JournalView``."""
        return await self._reader.query(lambda session: stream_log.key_sets_of(session, key))

    async def recall(self, scope: str, key: str) -> Any | None:
        """See ``JournalView``."""
        return await self._reader.query(lambda session: recall(session, scope, key))

    async def pages(self, key: StreamKey, window: Window, start: int) -> list[StoredPage] | None:
        """See ``JournalView``."""
        return await self._reader.query(lambda session: touching(session, key, window, start))

    async def judge(
        self,
        key: StreamKey,
        records: Sequence[Record],
        aliases: Mapping[int, Sequence[bytes]],
        sinks: Sequence[str],
        unread_us: int | None = None,
    ) -> Mapping[str, Verdict]:
        """See ``JournalView``."""
        return await self._reader.query(
            lambda session: judge(session, key, records, aliases, sinks, unread_us)
        )


class SqlJournal(SqlJournalView):
    """Owns the journal; see ``core.journal.Journal``. Made by an engine's ``open``, closed last."""

    def __init__(
        self,
        engine: Engine,
        session: Session,
        keeping: Keeping,
        clock: Clock,
        emit: Emit,
        *,
        patience: float,
    ) -> None:
        """Write by ``session``, which nobody else uses; call ``begin`` next."""
        self._engine = engine
        self._session = session
        self._keeping = keeping
        self._clock = clock
        self._emit = emit
        self._members: dict[str, Member] = {}
        self._seen = stream_log.SeenPages()
        self._ends = LaneEnds()
        self._cache = PageCache()
        self._writer = Writer(session, engine, self._seen.clear, emit, patience)
        super().__init__(JournalReader(engine, self._cache))

    async def begin(self) -> Self:
        """Make ready for use, and return self; closes the journal if that fails."""
        try:
            self._ends.lane_grew(LIVE, await self._reader.query(next_offset))
            await self._finish_cancelling()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _finish_cancelling(self) -> None:
        """End lanes whose cancelling a crash interrupted; nobody writes to a sink yet."""
        pending = await self._reader.query(
            lambda session: [
                name
                for (name,) in session.execute("SELECT name FROM lane WHERE state = 'cancelling'")
            ]
        )
        for name in pending:
            await self.cancel_lane(name)

    async def aclose(self) -> None:
        """Finish writing, give the connections back; idempotent."""
        # The reader goes first: SQLite folds its write-ahead log into the file when the last
        # connection closes, and a read-only one cannot.
        await self._reader.aclose()
        await self._writer.aclose()

    @property
    def _running(self) -> Collection[str] | None:
        return frozenset(self._members)

    @property
    def trouble(self) -> TransientError | None:
        """See ``Journal``."""
        return self._writer.trouble

    @property
    def ended(self) -> TransientError | None:
        """See ``Journal``."""
        return self._session.ended

    async def _write(self, operation: Callable[[Session], T]) -> T:
        """Write, then wake the sinks: own events, or another set of lanes, may be there."""
        result = await self._writer.run(operation)
        self._ends.lane_grew(LIVE, await self._reader.query(next_offset))
        self._ends.lanes_changed()
        return result

    def _emit_all(self, events: Sequence[TelemetryEvent]) -> None:
        for event in events:
            self._emit(event)

    def stream_log(self, key: StreamKey) -> stream_log.JournalStreamLog:
        """See ``Journal``."""
        return stream_log.JournalStreamLog(
            key, self._writer, self._seen, self._ends, self._emit, self._cache
        )

    async def sink_queue(
        self, name: str, *, start_at: StartAt = "now", blocking: bool = True
    ) -> JournalQueue:
        """See ``Journal``."""
        now_us = self._clock.now_us()

        def join(session: Session) -> tuple[int, Sequence[TelemetryEvent]]:
            number = lanes.join_sink(session, name, start_at, now_us)
            scope = ledger.Scope(sink=name)
            return number, ledger.close_gaps(session, scope, now_us, [ledger.REMOVED])

        number, closed = await self._write(join)
        self._emit_all(closed)
        # Only after the commit: a member that the file does not know would hold the gate for ever.
        self._members[name] = Member(number, name, blocking)
        return JournalQueue(
            number, self._writer, self._reader, self._ends, self._clock, self._emit,
            self._keeping,
        )  # fmt: skip

    def leave(self, name: str) -> None:
        """See ``Journal``."""
        self._members.pop(name, None)
        self._ends.lanes_changed()

    async def forget_sink(self, name: str) -> Forgotten:
        """See ``Journal``."""
        if name in self._members:
            raise StateError(f"sink {name} is running; remove it from the settings first")
        now_us = self._clock.now_us()
        forgotten, events = await self._write(lambda s: forget_sink(s, name, now_us))
        self._emit_all(events)
        return forgotten

    async def maintain(self, elsewhere: int = 0, awaited: Collection[str] = ()) -> None:
        """See ``Journal``."""
        members, now_us = list(self._members.values()), self._clock.now_us()
        events = await self._writer.run(
            lambda session: retention.prune(
                session, members, self._keeping, now_us, elsewhere, awaited
            ),
            patient=True,
        )
        self._ends.lane_grew(LIVE, await self._reader.query(next_offset))
        self._emit_all(events)

    async def undelivered_bytes(self) -> int:
        """See ``Journal``."""
        members = list(self._members.values())
        return await self._reader.query(lambda s: retention.undelivered_bytes(s, members))

    async def usage(self) -> Usage:
        """See ``Journal``."""
        members = list(self._members.values())

        def measure(session: Session) -> Usage:
            return Usage(
                retention.undelivered_bytes(session, members),
                retention.stored_bytes(session),
                self._engine.size(session),
                retention.stored_rows(session),
            )

        return await self._reader.query(measure)

    async def append_own(self, account_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """See ``Journal``."""
        now_us = self._clock.now_us()
        await self._write(lambda s: ledger.append_own(s, account_id, rows, now_us))

    async def open_backfill(self, name: str, spec: Mapping[str, Any], sinks: Sequence[str]) -> None:
        """See ``Journal``."""
        now_us = self._clock.now_us()
        await self._write(lambda s: lanes.open_backfill(s, name, spec, sinks, now_us))

    async def close_lane(self, name: str) -> None:
        """See ``Journal``."""
        await self._write(lambda s: lanes.close_lane(s, name))

    async def stop_lane(self, name: str) -> None:
        """See ``Journal``."""
        await self._write(lambda s: lanes.stop_lane(s, name))

    async def cancel_lane(self, name: str) -> LaneCancelled:
        """See ``Journal``."""
        now_us = self._clock.now_us()

        def cancel(session: Session) -> tuple[LaneCancelled, Sequence[TelemetryEvent]]:
            settled = cancel_lane(session, name, now_us)
            self._seen.clear()  # what was forgotten must be found again
            return settled

        outcome, events = await self._write(cancel)
        self._emit_all(events)
        return outcome

    async def replay(self, lane: str, sink: str, since_us: int) -> int:
        """See ``Journal``."""
        check_moment(since_us)
        now_us = self._clock.now_us()
        return await self._write(lambda s: lanes.replay_since(s, lane, sink, since_us, now_us))

    async def replay_letters(self, lane: str, sink: str, letter_ids: Collection[int] | None) -> int:
        """See ``Journal``."""
        now_us = self._clock.now_us()
        return await self._write(
            lambda s: dead_letters.replay_letters(s, lane, sink, letter_ids, now_us)
        )

    async def drop_letters(self, sink: str, letter_ids: Collection[int] | None) -> int:
        """See ``Journal``."""
        now_us = self._clock.now_us()
        count, closed = await self._write(
            lambda s: dead_letters.drop_letters(s, sink, letter_ids, now_us)
        )
        self._emit_all(closed)
        return count

    async def move_cursor(self, key: StreamKey, to_us: int) -> Cursor:
        """See ``Journal``."""
        check_moment(to_us)
        now_us = self._clock.now_us()
        cursor, events = await self._write(lambda s: stream_log.move_cursor(s, key, to_us, now_us))
        self._emit_all(events)
        return cursor

    async def keep(self, scope: str, key: str, value: Any) -> None:
        """See ``Journal``."""
        await self._writer.run(lambda session: keep(session, scope, key, value), patient=True)
