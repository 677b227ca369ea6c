"""What a journal has once: its readers and consumers, its gate, its backfills, its upkeep.

With SQLite a process has one cell; on PostgreSQL, one for each shard that it owns at present.
Nothing in here knows the process but through ``Replica``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from forwarder.config import AccountSettings, Changes, ForwarderSettings, changes
from forwarder.core.errors import ForwarderError, StateError, TransientError
from forwarder.core.journal import Journal, JournalView, Usage
from forwarder.core.lease import FleetState, Lease
from forwarder.core.own_events import Own, own_row
from forwarder.ingest.rounds import Gate
from forwarder.observe.metrics import expect
from forwarder.runtime.backfills import Backfills
from forwarder.runtime.opening import StateFolder, open_journal, path_of
from forwarder.runtime.replica import VERSION, Replica
from forwarder.runtime.shards import ShardViews
from forwarder.runtime.supervisor import Beat, Supervisor
from forwarder.runtime.workers import Sinks, Streams

T = TypeVar("T")

_UPKEEP = 5.0
_LEAVING = 10.0
"""Seconds for a sink that a reload stops to settle what is in flight."""
_FAREWELL = 3.0
_NEAR = 1000
"""At the end, sinks that lack at most this many events have ``_FAREWELL`` seconds to take them."""


class Cell:
    """One open journal and everything that works on it."""

    def __init__(
        self,
        replica: Replica,
        journal: Journal,
        folder: StateFolder,
        lease: Lease | None,
        seat: Seat,
    ) -> None:
        """Start nothing yet; ``seat`` knows what the other shards hold."""
        self._replica = replica
        self._folder = folder
        self._lease = lease
        self._seat = seat
        self._runs: ForwarderSettings | None = None
        self._change: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self.shard = 0 if lease is None else lease.shard
        self.journal = journal
        self.supervisor = Supervisor(replica.clock, replica.random, replica.emit)
        limit = replica.settings.root.journal.max_size
        self.gate = Gate(limit, self.undelivered_bytes, replica.clock, replica.emit)
        self.streams = Streams(replica, journal, self.gate, self.supervisor)
        self.sinks = Sinks(replica, journal, self.supervisor, self.shard)
        self.backfills = Backfills(replica, journal, self.streams, self.sinks, self.supervisor)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, replica: Replica, lease: Lease | None = None, seat: Seat | None = None
    ) -> AsyncIterator[Cell]:
        """Open the journal of the settings while the block runs; its tasks end with the block.

        If the journal is shared, ``lease`` was taken before, and ``seat`` knows its other shards.

        Raises ``LockedError``, ``DamagedError`` or ``StateError`` if it cannot be opened.
        """
        root = replica.settings.root
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(StateFolder(root.state_dir))
            journal = await open_journal(
                replica.settings, lease, clock=replica.clock, emit=replica.emit
            )
            stack.push_async_callback(journal.aclose)
            if lease is None:
                folder.opened(path_of(root.state_dir))
            cell = cls(replica, journal, folder, lease, seat or Seat())
            stack.push_async_callback(cell.streams.stop)
            stack.push_async_callback(cell.supervisor.stop_all)
            stack.push_async_callback(cell._follow_no_more)
            yield cell

    @property
    def started(self) -> bool:
        """True from the end of ``start`` until ``wind_down`` begins."""
        return self._runs is not None

    @property
    def trouble(self) -> TransientError | None:
        """Why rows cannot be stored, or not so that they last; None if all is well."""
        return self.journal.trouble or self._folder.trouble

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about the state folder that are worth a log line."""
        return self._folder.warnings()

    def own(self, settings: ForwarderSettings) -> list[AccountSettings]:
        """Return the accounts of this shard."""
        shard_of = self._replica.shard_of
        return [one for one in settings.accounts if shard_of(one.account_id) == self.shard]

    async def start(self) -> None:
        """Read and deliver what the settings name, and resume backfills."""
        settings = self._replica.settings
        # The sinks join first: a row that is stored earlier would not be theirs, and the upkeep
        # gives up what waits for a sink that has not joined.
        await self.sinks.join(settings.sinks)
        # A task of the cell, so that it ends before the journal is closed.
        self.supervisor.start(f"upkeep:{self.shard}", self._upkeep)
        await self.note(Own.START)
        self.sinks.start(sink.name for sink in settings.sinks)
        await self.streams.start(self.own(settings))
        self._expect()
        await self.backfills.resume()
        self._runs = settings

    async def follow(self) -> None:
        """Bring what runs to the settings in force; called after a reload, and by ``maintain``.

        Does nothing until ``start`` is done, which may have begun with older ones, and nothing from
        the end on. After an error, the next call does what is left.
        """
        async with self._one_at_a_time:
            if self._change is not None:
                # It continues if its caller was cancelled.
                await asyncio.wait({self._change})
            old, new = self._runs, self._replica.settings
            if old is None or old is new:
                return
            # Nobody knows what runs after a failure: then everything begins again.
            self._runs = replace(old, accounts=(), sinks=())
            self._change = asyncio.create_task(self._apply(changes(old, new), new), name="change")
            # Not awaited itself: the end of the cell cancels it, but not whoever reloads.
            await asyncio.wait({self._change})
            if not self._change.cancelled():
                self._change.result()

    async def _apply(self, difference: Changes, new: ForwarderSettings) -> None:
        """Stop what is gone or differs, start what is new or differs; leave the rest alone."""
        sinks, streams = difference.sinks, difference.streams
        removed = self.sinks.settings.keys() - {sink.name for sink in new.sinks}
        coming = (*sinks.added, *sinks.changed)
        await self.sinks.drain((*removed, *coming), _LEAVING)
        # A sink that only differs never leaves the journal: what it waits for would be held by
        # nobody until it joins again.
        self.sinks.leave(removed)
        await self.sinks.join(sink for sink in new.sinks if sink.name in coming)
        self.sinks.start(coming)
        # All streams of an account share a source, so one that differs restarts the others.
        keys = (*streams.added, *streams.changed, *streams.removed)
        accounts = {key.account_id for key in keys}
        mine = self.own(new)
        await self.streams.stop(accounts | self.streams.accounts - {one.account_id for one in mine})
        await self.streams.start(one for one in mine if one.account_id in accounts)
        self._expect()
        self._runs = new

    async def _follow_no_more(self) -> None:
        """End a change that is under way; what it would still start would never be stopped."""
        self._runs = None
        if self._change is not None:
            self._change.cancel()
            await asyncio.gather(self._change, return_exceptions=True)

    async def paused(self, account_id: str, change: Callable[[], Awaitable[T]]) -> T:
        """See ``Streams.paused``; settings do not change meanwhile."""
        async with self._one_at_a_time:
            return await self.streams.paused(account_id, change)

    async def wind_down(self, grace: float) -> int:
        """Read no more, let writes end, acknowledge; return the events that stay undelivered.

        Returns within about ``grace`` seconds.
        """
        clock = self._replica.clock
        deadline = clock.monotonic() + grace
        await self._follow_no_more()
        await self.streams.stop()
        await self.note(Own.STOP)
        await self._deliver_the_last()
        await self.sinks.drain(self.sinks.settings, max(1.0, deadline - clock.monotonic()))
        await self.supervisor.stop_all()
        return sum(place.backlog for place in await self.journal.places() if place.running)

    async def maintain(self) -> None:
        """Prune, store what the next process should know, follow; called every few seconds."""
        # In a thread: the folder may be on a network file system that hangs.
        await asyncio.to_thread(self._folder.look)
        if self._folder.trouble is not None:
            self._replica.report_journal(self._folder.trouble)
        try:
            await self.journal.maintain(self._seat.elsewhere(self.shard)[1], self._seat.fleet.sinks)
            await self.streams.remember()
            if self._lease is not None:
                usage = await self.journal.usage()
                self._lease.report(usage.undelivered_bytes, usage.stored_bytes)
            # Last: a change that fails may need the room that was made.
            await self.follow()
        except ForwarderError as error:
            self._replica.report_journal(error)

    async def undelivered_bytes(self) -> int:
        """Return the bytes that blocking sinks still need, of all shards of the journal."""
        return await self.journal.undelivered_bytes() + self._seat.elsewhere(self.shard)[0]

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

    async def _upkeep(self, beat: Beat) -> None:
        while True:
            beat()
            await self._replica.clock.sleep(_UPKEEP)
            await self.maintain()

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


class Seat:
    """Where the process has its cells, by shard: empty while other replicas have all shards."""

    def __init__(self) -> None:
        """Be empty."""
        self._cells: dict[int, Cell] = {}
        self._fleet = FleetState()
        self._trouble: TransientError | None = None

    @property
    def cells(self) -> Mapping[int, Cell]:
        """The cells that are here, by shard; a standby has none."""
        return self._cells

    @property
    def trouble(self) -> TransientError | None:
        """Why this process could not take over if it had to; None if it could."""
        return self._trouble

    @property
    def fleet(self) -> FleetState:
        """Who has a shared journal, as far as this process knows; nothing for a file."""
        return self._fleet

    def fill(self, cell: Cell) -> None:
        """Have ``cell`` from now on."""
        self._cells[cell.shard] = cell

    def clear(self, shard: int) -> None:
        """Have no cell of ``shard`` any more; idempotent."""
        self._cells.pop(shard, None)

    def learn(self, fleet: FleetState) -> None:
        """Note who has the journal: the database has answered."""
        self._fleet, self._trouble = fleet, None

    def fail(self, error: TransientError) -> None:
        """Note that nobody can say who has the journal."""
        self._trouble = error

    def elsewhere(self, shard: int) -> tuple[int, int]:
        """Return the undelivered and the stored bytes of the other shards, a few seconds old."""
        others = [one for one in self._fleet.shards if one.shard != shard]
        return sum(one.undelivered_bytes for one in others), sum(one.stored_bytes for one in others)

    def journal(self, placed: Mapping[str, int]) -> JournalView | None:
        """Return the journals of all cells as one; ``placed`` is the shard of each account."""
        journals = {shard: cell.journal for shard, cell in self._cells.items()}
        if len(journals) > 1:
            return ShardViews(journals, placed)
        return next(iter(journals.values()), None)

    async def usage(self) -> Usage:
        """Return the sizes of all cells; what is undelivered includes the shards of others."""
        usages = [await cell.journal.usage() for cell in list(self._cells.values())]
        others = [one for one in self._fleet.shards if one.shard not in self._cells]
        return Usage(
            sum(one.undelivered_bytes for one in usages)
            + sum(one.undelivered_bytes for one in others),
            sum(one.stored_bytes for one in usages),
            sum(one.file_bytes for one in usages),
            sum(one.stored_rows for one in usages),
        )

    def expect(self, shard: int = 0) -> Cell:
        """Return the cell of a shard; raises ``StateError`` if it is not here."""
        cell = self._cells.get(shard)
        if cell is None:
            owner = next((o.owner for o in self._fleet.shards if o.shard == shard and o.owner), "")
            who = f"{owner} has it" if owner else "no replica has it at present"
            raise StateError(f"shard {shard} of the journal is not here: {who}")
        return cell
