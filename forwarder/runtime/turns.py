"""The turns of a replica: it takes shards of a shared journal, works on them, gives them back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from forwarder.config import ForwarderSettings
from forwarder.core.errors import ForwarderError, StateError, TransientError
from forwarder.core.lease import Fleet, FleetState, Lease, Taken, spare, wanted
from forwarder.observe.events import (
    JournalLost,
    SettingsOlder,
    ShardGiven,
    ShardTaken,
    UpgradeWaits,
)
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.opening import require_shards
from forwarder.runtime.replica import Replica

_LOOK = 0.3
"""Seconds between two looks at the fleet."""


class Host(Protocol):
    """The process, as the turns of its shards need it."""

    async def start(self, cell: Cell) -> None:
        """Begin to read and deliver; called once the shard's journal is open."""
        ...

    async def wind_down(self, cell: Cell) -> None:
        """Read no more, let writes end, acknowledge; called while the shard is still owned."""
        ...

    def requests(self, lease: Lease) -> Callable[[Callable[[], None]], Awaitable[None]]:
        """Return the task that carries out what others ask of the owner of a shard."""
        ...


class Turns:
    """Runs a cell for each shard that this replica gets, for as long as it has the shard."""

    def __init__(self, replica: Replica, seat: Seat, fleet: Fleet, host: Host) -> None:
        """Have no turn yet."""
        self._replica = replica
        self._seat = seat
        self._fleet = fleet
        self._host = host
        # As it was at the start: what a reload says about the journal waits for a restart.
        self._journal = replica.settings.root.journal
        self._running: dict[int, asyncio.Task[None]] = {}
        self._given: dict[int, asyncio.Event] = {}
        self._free_since: dict[int, float] = {}
        self._announced: ForwarderSettings | None = None
        self._held_back = False
        self._older: Sequence[str] = ()

    async def run(self, ending: asyncio.Task[None]) -> None:
        """Take turns until ``ending`` is done, then wind down all of them."""
        try:
            while not ending.done():
                await self._look(ending)
                await asyncio.wait({ending}, timeout=_LOOK)
            await asyncio.gather(*self._running.values())
        finally:
            # One of them has failed for good, which ends the process.
            for turn in self._running.values():
                turn.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _look(self, ending: asyncio.Task[None]) -> None:
        """Learn the state of the fleet, and begin or end one turn if that is due."""
        for shard, turn in list(self._running.items()):
            if turn.done():
                del self._running[shard]
                turn.result()
        try:
            fleet = await self._learn()
        except ForwarderError as error:
            self._fail(error)
            return
        if fleet is None:
            return
        chosen = self._choose(fleet)
        if chosen is not None:
            self._given[chosen] = asyncio.Event()
            turn = asyncio.create_task(self._turn(chosen, ending), name=f"shard:{chosen}")
            self._running[chosen] = turn
        elif not any(one.is_set() for one in self._given.values()):
            own = [one.shard for one in fleet.shards if one.owner == self._fleet.name]
            if spare(fleet, self._fleet.name) and own[-1] in self._given:
                self._given[own[-1]].set()

    async def _learn(self) -> FleetState | None:
        """Say that this replica lives; note who has the shards, and which has which account.

        None while replicas of an older release work, for which this one waits.
        """
        self._announce()
        fleet = await self._fleet.look()
        self._wait_for(fleet.older)
        if fleet.older:
            self._seat.learn(fleet)
            return None
        require_shards(self._journal, len(fleet.shards))
        self._replica.join(self._fleet, len(fleet.shards))
        await self._replica.place(self._replica.settings)
        self._seat.learn(fleet)
        older = self._fleet.name not in fleet.newest
        if older and not self._held_back:
            self._replica.emit(SettingsOlder(tuple(fleet.newest)))
        self._held_back = older
        return fleet

    def _wait_for(self, older: Sequence[str]) -> None:
        """Report the replicas of an older release for which this one waits, when they change."""
        if older and older != self._older:
            self._replica.emit(UpgradeWaits(tuple(older)))
        self._older = older

    def _announce(self) -> None:
        settings = self._replica.settings
        if settings is not self._announced:
            self._fleet.announce(self._replica.announcement)
            self._announced = settings

    def _choose(self, fleet: FleetState) -> int | None:
        """Return the free shard that this replica should take now, or None."""
        now, me = self._replica.clock.monotonic(), self._fleet.name
        free = [one.shard for one in fleet.shards if not one.owner]
        self._free_since = {shard: self._free_since.get(shard, now) for shard in free}
        open_ = [shard for shard in free if shard not in self._running]
        if not open_:
            return None
        lease = self._replica.settings.root.journal.lease
        overdue = now - min(self._free_since.values()) > lease
        if not wanted(fleet, me, len(self._running), overdue=overdue):
            return None
        # Replicas that look at the same moment begin with different shards.
        names = [one.name for one in fleet.replicas]
        place = names.index(me) if me in names else 0
        return open_[place % len(open_)]

    def _fail(self, error: ForwarderError) -> None:
        trouble = TransientError(str(error), hint=getattr(error, "hint", ""))
        if self._seat.trouble is None:
            self._replica.report_journal(trouble, "standing by")
        self._seat.fail(trouble)

    async def _turn(self, shard: int, ending: asyncio.Task[None]) -> None:
        """Take a shard, if it is still free, and work on it until the end or until it is lost."""
        lease = self._fleet.lease(shard)
        try:
            taken = await lease.take()
            if taken is not None:
                await self._work(lease, taken, ending)
        except (TransientError, StateError) as error:
            # Whatever was half done is as it is after a crash: the next turn begins from the
            # journal, here or in another replica.
            self._replica.report_journal(error, f"the turn of shard {shard} ends")
        finally:
            self._seat.clear(shard)
            self._given.pop(shard, None)
            await lease.release()

    async def _work(self, lease: Lease, taken: Taken, ending: asyncio.Task[None]) -> None:
        replica, lost = self._replica, asyncio.ensure_future(lease.lost())
        replica.emit(ShardTaken(taken.shard, taken.epoch, taken.former))
        given = asyncio.ensure_future(self._given[taken.shard].wait())
        try:
            async with Cell.opened(replica, lease, self._seat) as cell:
                self._seat.fill(cell)
                working = asyncio.ensure_future(self._work_in(cell, lease, {ending, given}))
                try:
                    await asyncio.wait({lost, working}, return_when=asyncio.FIRST_COMPLETED)
                    if working.done():
                        working.result()
                        if not ending.done():
                            replica.emit(ShardGiven(taken.shard))
                        return
                finally:
                    self._seat.clear(taken.shard)
                    working.cancel()
                    await asyncio.gather(working, return_exceptions=True)
            replica.emit(JournalLost(taken.shard, lost.result()))
        finally:
            lost.cancel()
            given.cancel()

    async def _work_in(self, cell: Cell, lease: Lease, ends: set[asyncio.Future[Any]]) -> None:
        """Work until one of ``ends`` is done, then wind down; cancelled if the shard is lost."""
        await self._host.start(cell)
        cell.supervisor.start("requests", self._host.requests(lease))
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await self._host.wind_down(cell)
