"""The log of one stream on SQLite; implements ``ingest.stream_log.StreamLog``."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import orjson

from forwarder.core.contracts import LIVE, StreamKey, Window
from forwarder.core.log import Addition, Appended, KeySet, ReaderState, StreamMemory
from forwarder.core.source_contract import Records
from forwarder.core.telemetry import Emit, TelemetryEvent
from forwarder.journal.appending import (
    SeenPages,
    is_overtaken,
    load_key_sets,
    remember_keys,
    save_reader,
    store,
    unseen,
)
from forwarder.journal.gaps import Scope, append_own, close_gaps, note_loss
from forwarder.journal.memory import keep, recall
from forwarder.journal.pages import Place, fresh_page
from forwarder.journal.reader import FreshPages
from forwarder.journal.streams import lane_id, next_offset, stream_id
from forwarder.journal.tide import Tide
from forwarder.journal.writer import Writer


class _Stored(NamedTuple):
    """What the writer's thread hands back: the answer, the lanes' ends, what to report."""

    appended: Appended
    end_offset: int
    events: list[TelemetryEvent]
    pages: Sequence[tuple[int, Records]] = ()


class SqliteStreamLog:
    """Rows and reader positions of one stream of one account."""

    def __init__(
        self,
        key: StreamKey,
        writer: Writer,
        seen: SeenPages,
        tide: Tide,
        emit: Emit,
        fresh: FreshPages | None = None,
    ) -> None:
        """Made by ``Journal.stream_log``; ``seen`` belongs to the writer's thread."""
        self._fresh = fresh or FreshPages()
        self._key = key
        self._scope = Scope(account_id=key.account_id, stream=key.stream)
        self._writer = writer
        self._seen = seen
        self._tide = tide
        self._emit = emit
        self._key_sets: list[KeySet] = []

    async def load(self) -> StreamMemory:
        """Return the readers and key sets."""
        readers = await self._writer.run(self._load)
        return StreamMemory(readers, self._key_sets)

    async def append(self, addition: Addition) -> Appended:
        """Store what is new, the reader's state and the losses, in one transaction."""
        stored = await self._writer.run(lambda connection: self._append(connection, addition))
        self._key_sets = list(stored.appended.key_sets)
        for first, rows in stored.pages:
            page = partial(fresh_page, self._key, addition.seen_us, first, rows)
            self._fresh.offer(first, page)
        self._tide.rise(addition.lane, stored.end_offset)
        self._tide.rise(LIVE, stored.end_offset)
        for event in stored.events:
            self._emit(event)
        return stored.appended

    async def forget(self, reader: str) -> None:
        """Remove a reader whose work is done."""
        await self._writer.run(
            lambda connection: connection.execute(
                "DELETE FROM reader WHERE stream = ? AND name = ?",
                (self._id(connection), reader),
            )
        )

    async def recall(self, key: str) -> Any | None:
        """Return what was kept under ``key``, or None."""
        return await self._writer.run(lambda connection: recall(connection, str(self._key), key))

    async def keep(self, key: str, value: Any) -> None:
        """Keep a small JSON value under ``key``."""
        await self._writer.run(lambda connection: keep(connection, str(self._key), key, value))

    def _id(self, connection: sqlite3.Connection) -> int:
        return stream_id(connection, self._key.account_id, self._key.stream)

    def _load(self, connection: sqlite3.Connection) -> dict[str, ReaderState]:
        number = self._id(connection)
        self._key_sets = load_key_sets(connection, number)
        found = connection.execute(
            "SELECT name, covered_until_us, since_us, until_us, position, rows, reached_us "
            "FROM reader WHERE stream = ?",
            (number,),
        )
        return {
            name: ReaderState(
                covered_until_us=covered,
                window=None if since is None else Window(since, until),
                position=None if position is None else orjson.loads(position),
                rows=rows,
                reached_us=reached,
            )
            for name, covered, since, until, position, rows, reached in found
        }

    def _append(self, connection: sqlite3.Connection, addition: Addition) -> _Stored:
        number = self._id(connection)
        if is_overtaken(connection, number, addition):
            sets = load_key_sets(connection, number)
            refused = Appended((), 0, addition.state.rows, sets, overtaken=True)
            return _Stored(refused, next_offset(connection), [])
        place = Place(number, lane_id(connection, addition.lane), addition.seen_us)
        records = Records.of(addition.records)
        if addition.again:
            new, reshaped = list(range(len(records))), 0
        else:
            new, reshaped = unseen(connection, place, records, addition.aliases, self._seen)
        remember_keys(connection, number, addition.new_keys)
        pages = store(connection, place, records, new, self._seen)
        rows = addition.state.rows + len(new)
        told = addition.tell(rows)
        state = replace(addition.state, rows=0 if told else rows)
        save_reader(connection, number, addition.reader, state)
        events = self._account(connection, addition)
        append_own(connection, self._key.account_id, told, addition.seen_us)
        sets = load_key_sets(connection, number) if addition.new_keys else self._key_sets
        return _Stored(
            Appended(new, reshaped, state.rows, sets), next_offset(connection), events, pages
        )

    def _account(self, connection: sqlite3.Connection, addition: Addition) -> list[TelemetryEvent]:
        """Write losses into the ledger; close its records when a round ended without one."""
        opened = [
            note_loss(connection, self._scope, lost, addition.seen_us) for lost in addition.lost
        ]
        events: list[TelemetryEvent] = [gap for gap in opened if gap is not None]
        if addition.settled and not addition.lost:
            events += close_gaps(connection, self._scope, addition.seen_us)
        return events
