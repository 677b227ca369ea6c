"""What a journal has once: its readers and consumers, its gate, its backfills, its upkeep.

With SQLite a process has one cell. Nothing in here knows the process but through ``Replica``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from forwarder.admin.control import Command, checked, flag, moment, numbers, text, texts
from forwarder.config import Changes, ForwarderSettings
from forwarder.core.contracts import StreamKey, Window
from forwarder.core.errors import BadRequestError, ForwarderError, StateError, TransientError
from forwarder.core.journal import OPEN, Cursor, Journal, check_moment
from forwarder.core.own_events import Own, own_row
from forwarder.core.timing import format_seconds, format_us
from forwarder.ingest.backfill import Backfiller, BackfillOrder
from forwarder.ingest.rounds import Gate
from forwarder.observe.metrics import expect
from forwarder.runtime.opening import StateFolder, open_journal, path_of
from forwarder.runtime.replica import VERSION, Beat, Replica, Supervisor
from forwarder.runtime.workers import Sinks, Streams

_KIND = "backfill:"
_SILENT_FOR = 900.0
_LEAVING = 10.0
"""Seconds for a sink that a reload stops to settle what is in flight."""
_FAREWELL = 3.0
_NEAR = 1000
"""At the end, sinks that lack at most this many events have ``_FAREWELL`` seconds to take them."""


class Cell:
    """One open journal and everything that works on it."""

    def __init__(self, replica: Replica, journal: Journal, folder: StateFolder, limit: int) -> None:
        """Start nothing yet; ``limit`` is ``journal.max_size`` in bytes."""
        self._replica = replica
        self._folder = folder
        self._started = False
        self.journal = journal
        self.limit = limit
        self.supervisor = Supervisor(replica.clock, replica.random, replica.emit)
        self.gate = Gate(limit, journal.undelivered_bytes, replica.clock, replica.emit)
        self.streams = Streams(replica, journal, self.gate, self.supervisor)
        self.sinks = Sinks(replica, journal, self.supervisor)
        self.backfills = Backfills(replica, journal, self.streams, self.sinks, self.supervisor)

    @classmethod
    @asynccontextmanager
    async def opened(cls, replica: Replica) -> AsyncIterator[Cell]:
        """Open the journal of the settings while the block runs; its tasks end with the block.

        Raises ``LockedError``, ``DamagedError`` or ``StateError`` if it cannot be opened.
        """
        root = replica.settings.root
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(StateFolder(root.state_dir))
            journal = await open_journal(replica.settings, clock=replica.clock, emit=replica.emit)
            stack.push_async_callback(journal.aclose)
            folder.opened(path_of(root.state_dir))
            cell = cls(replica, journal, folder, root.journal.max_size)
            stack.push_async_callback(cell.streams.stop)
            stack.push_async_callback(cell.supervisor.stop_all)
            yield cell

    @property
    def started(self) -> bool:
        """True from the end of ``start`` until ``wind_down`` begins."""
        return self._started

    @property
    def trouble(self) -> TransientError | None:
        """Why rows cannot be stored, or not so that they last; None if all is well."""
        return self.journal.trouble or self._folder.trouble

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about the state folder that are worth a log line."""
        return self._folder.warnings()

    async def start(self) -> None:
        """Read and deliver what the settings name, and resume backfills."""
        settings = self._replica.settings
        # The sinks join first: a row that is stored earlier would not be theirs.
        await self.sinks.join(settings.sinks)
        await self.note(Own.START)
        self.sinks.start(sink.name for sink in settings.sinks)
        await self.streams.start(settings.accounts)
        self._expect()
        await self.backfills.resume()
        self._started = True

    async def change(self, difference: Changes, new: ForwarderSettings) -> None:
        """Stop what is gone or differs, start what is new or differs; leave the rest alone."""
        sinks, streams = difference.sinks, difference.streams
        leaving, coming = (*sinks.removed, *sinks.changed), (*sinks.added, *sinks.changed)
        await self.sinks.drain(leaving, _LEAVING)
        # A sink that only differs never leaves the journal: what it waits for would be held by
        # nobody until it joins again.
        self.sinks.leave(sinks.removed)
        await self.sinks.join(sink for sink in new.sinks if sink.name in coming)
        self.sinks.start(coming)
        # All streams of an account share a source, so one that differs restarts the others.
        keys = (*streams.added, *streams.changed, *streams.removed)
        accounts = {key.account_id for key in keys}
        await self.streams.stop(accounts)
        await self.streams.start(one for one in new.accounts if one.account_id in accounts)
        self._expect()

    async def wind_down(self, grace: float) -> int:
        """Read no more, let writes end, acknowledge; return the events that stay undelivered.

        Returns within about ``grace`` seconds.
        """
        clock, self._started = self._replica.clock, False
        deadline = clock.monotonic() + grace
        await self.streams.stop()
        await self.note(Own.STOP)
        await self._deliver_the_last()
        await self.sinks.drain(self.sinks.settings, max(1.0, deadline - clock.monotonic()))
        await self.supervisor.stop_all()
        return sum(place.backlog for place in await self.journal.places() if place.running)

    async def maintain(self) -> None:
        """Prune, and store what the next process should know; called every few seconds."""
        # In a thread: the folder may be on a network file system that hangs.
        await asyncio.to_thread(self._folder.look)
        if self._folder.trouble is not None:
            self._replica.report_journal(self._folder.trouble)
        try:
            await self.journal.maintain()
            await self.streams.remember()
        except ForwarderError as error:
            self._replica.report_journal(error)

    async def note(self, event: Own, detail: str = "") -> None:
        """Store one of the forwarder's own events; a full disk must not stop what it is about."""
        try:
            now_us = self._replica.clock.now_us()
            row = own_row(event, now_us, detail=detail, version=VERSION)
            await self.journal.append_own("", [row])
        except ForwarderError as error:
            self._replica.report_journal(error)

    def wake(self) -> None:
        """Let everything that waits for a later attempt retry now."""
        self.streams.wake()
        self.sinks.wake()

    def _expect(self) -> None:
        """Let the counters of the running streams and sinks begin at zero."""
        expect(self._replica.telemetry.metrics, self.streams.names, self.sinks.settings)

    async def _deliver_the_last(self) -> None:
        """Let sinks that are up to date deliver the last event too: nobody else will soon."""
        backlog = Counter[str]()
        for place in await self.journal.places():
            backlog[place.sink] += place.backlog
        near = [name for name, events in backlog.items() if events <= _NEAR]
        await self.sinks.finish(near, _FAREWELL)


class _Backfill:
    """One backfill under way: its order, and a reader for each of its streams."""

    def __init__(self, order: BackfillOrder) -> None:
        self.order = order
        self._readers: dict[StreamKey, Backfiller] = {}

    @property
    def readers(self) -> Mapping[StreamKey, Backfiller]:
        return self._readers

    @property
    def rows(self) -> int:
        """How many rows were stored, also by an earlier process that began this backfill."""
        return sum(reader.rows for reader in self._readers.values())

    def prepare(self, streams: Streams, keys: Iterable[StreamKey], beat: Beat) -> None:
        """Make new readers; each continues where the journal says."""
        self._readers = {key: Backfiller(streams.context(key, beat), self.order) for key in keys}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for reader in self._readers.values():
                tasks.create_task(reader.run())


class Backfills:
    """Starts, resumes, cancels and shows backfills: a lane each, resumed after a restart."""

    def __init__(
        self,
        replica: Replica,
        journal: Journal,
        streams: Streams,
        sinks: Sinks,
        supervisor: Supervisor,
    ) -> None:
        """Run nothing yet."""
        self._sinks = sinks
        self._replica = replica
        self._journal = journal
        self._streams = streams
        self._supervisor = supervisor
        self._running: dict[str, _Backfill] = {}
        self._stored: dict[str, int] = {}

    async def resume(self) -> None:
        """Continue what an earlier process did not finish; called once, at the start."""
        for lane in await self._journal.lanes():
            if lane.name.startswith(_KIND) and lane.state == OPEN and lane.end_offset is None:
                self._start(lane.name, lane.spec)

    async def begin(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Open a lane and start reading; answers ``lane`` and the ``streams`` that are read.

        ``since_us``, ``until_us`` bound the rows' times; ``again`` delivers rows that are known
        as well; ``sinks``, ``accounts`` (ids or labels) and ``streams`` choose, all when empty.
        """
        if check_moment(given["since_us"]) >= check_moment(given["until_us"]):
            raise BadRequestError("the window ends before it begins")
        keys = self._keys(given)
        if not keys:
            raise StateError("no running stream matches; `forwarder status` lists them")
        lane = f"{_KIND}{self._replica.clock.now_us():x}"
        await self._journal.open_backfill(lane, dict(given), list(given.get("sinks") or ()))
        self._start(lane, given)
        return {"lane": lane, "streams": [self._replica.scope_name(str(key)) for key in keys]}

    async def cancel(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stop the reading and the delivery of ``lane``; what was delivered stays.

        Works for a lane of a replay, which nobody reads, and while no backfill runs here, too.
        Answers how many rows will be ``found_again``, how many events are ``lost`` and how many
        dead letters were ``returned``.
        """
        lane = str(given["lane"])
        if self._running.pop(lane, None) is not None:
            await self._supervisor.stop(lane)
        await self._journal.stop_lane(lane)
        await self._sinks.settled(lane, _LEAVING)
        ended = await self._journal.cancel_lane(lane)
        return {
            "lane": lane,
            "found_again": ended.found_again,
            "lost": ended.lost,
            "returned": ended.returned,
        }

    async def rows(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer ``lane`` and the ``rows`` that its backfill has stored, also after its end."""
        lane = str(given["lane"])
        running = self._running.get(lane)
        if running is None and lane not in self._stored:
            raise StateError(f"no backfill called {lane} has run here")
        return {"lane": lane, "rows": running.rows if running else self._stored[lane]}

    async def is_open(self, lane: str) -> bool:
        """Return True until every sink has the lane to its end."""
        lanes = await self._journal.lanes()
        return any(one.name == lane and one.state == OPEN for one in lanes)

    def states(self) -> Sequence[Mapping[str, Any]]:
        """Return the progress of every backfill as JSON values."""
        labels = self._replica.rendering.labels
        return [
            {
                "lane": lane,
                "account": labels.get(key.account_id, key.account_id),
                "stream": key.stream,
                "since": format_us(running.order.window.since_us),
                "until": format_us(running.order.window.until_us),
                "done_until": format_us(reader.covered_us),
                "rows": reader.rows,
            }
            for lane, running in self._running.items()
            for key, reader in running.readers.items()
        ]

    def _keys(self, given: Mapping[str, Any]) -> list[StreamKey]:
        return self._streams.matching(
            accounts=tuple(given.get("accounts") or ()), streams=tuple(given.get("streams") or ())
        )

    def _start(self, lane: str, spec: Mapping[str, Any]) -> None:
        window = Window(int(spec["since_us"]), int(spec["until_us"]))
        running = _Backfill(BackfillOrder(lane, window, again=bool(spec.get("again"))))
        # Readers from now on, not from the task's first step on: status shows them at once.
        running.prepare(self._streams, self._keys(spec), lambda: None)
        self._running[lane] = running
        self._supervisor.start(
            lane, lambda beat: self._work(lane, running, spec, beat), silent_for=_SILENT_FOR
        )

    async def _work(
        self, lane: str, running: _Backfill, spec: Mapping[str, Any], beat: Beat
    ) -> None:
        """Read all streams to the window's end, then close the lane."""
        # Chosen again after a crash: a reload may have removed streams meanwhile.
        running.prepare(self._streams, self._keys(spec), beat)
        await running.run()
        self._stored[lane] = running.rows
        await self._journal.close_lane(lane)
        self._running.pop(lane, None)


class Operations:
    """Operations on the journal of one cell."""

    def __init__(self, replica: Replica, cell: Cell) -> None:
        """Work on ``cell``, whether its streams and sinks run or not."""
        self._replica = replica
        self._cell = cell
        self._journal = cell.journal

    def table(self) -> dict[str, Command]:
        """Return the operations by name; each checks its arguments before it does anything."""
        letters, backfills = {"sink": text}, self._cell.backfills
        window = {"since_us": moment, "until_us": moment}
        chosen = {"again": flag, "accounts": texts, "streams": texts, "sinks": texts}
        cursor = {"account_id": text, "stream": text, "to_us": moment}
        return {
            "dead-letters-drop": checked(self.drop_dead_letters, letters, {"ids": numbers}),
            "dead-letters-replay": checked(self.replay_dead_letters, letters, {"ids": numbers}),
            "replay": checked(self.replay, {"sink": text, "since_us": moment}),
            "backfill": checked(backfills.begin, window, chosen),
            "backfill-rows": checked(backfills.rows, {"lane": text}),
            "lane-cancel": checked(backfills.cancel, {"lane": text}),
            "cursor-set": checked(self.set_cursor, cursor),
            "sink-forget": checked(self.forget_sink, {"sink": text}),
        }

    async def drop_dead_letters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Delete dead letters of ``sink`` (``ids``, or all); answers ``events``."""
        return {"events": await self._journal.drop_letters(str(given["sink"]), given.get("ids"))}

    async def replay_dead_letters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Deliver dead letters of ``sink`` again (``ids``, or all); answers ``events`` and lane."""
        lane = self._new_lane()
        count = await self._journal.replay_letters(lane, str(given["sink"]), given.get("ids"))
        return {"events": count, "lane": lane}

    async def replay(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Deliver to ``sink`` what is kept since ``since_us``; answers ``events``, ``lane``."""
        lane = self._new_lane()
        count = await self._journal.replay(lane, str(given["sink"]), int(given["since_us"]))
        return {"events": count, "lane": lane}

    async def forget_sink(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give up the places of an absent ``sink``; answers ``events`` and ``dead_letters``."""
        forgotten = await self._journal.forget_sink(str(given["sink"]))
        return {"events": forgotten.events, "dead_letters": forgotten.dead_letters}

    async def set_cursor(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Move the live position of a stream to ``to_us``; rows jumped over become a gap."""
        key, to_us = (
            StreamKey(str(given["account_id"]), str(given["stream"])),
            int(given["to_us"]),
        )

        async def move() -> Cursor:
            return await self._journal.move_cursor(key, to_us)

        # A poller keeps its position in memory and would write it back.
        cursor = await self._cell.streams.paused(key.account_id, move)
        clamped = cursor.covered_until_us < to_us
        return {"covered_until": format_seconds(cursor.covered_until_us), "clamped": clamped}

    def _new_lane(self) -> str:
        """Return a name that no lane has; microseconds are unique in a journal."""
        return f"replay:{self._replica.clock.now_us():x}"
