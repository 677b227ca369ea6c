"""The turns of a replica: it takes shards of a shared journal, works on them, gives them back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from forwarder.core.errors import ForwarderError, StateError, TransientError
from forwarder.core.lease import Fleet, FleetState, Lease, Taken
from forwarder.observe.events import JournalLost, ShardTaken
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.replica import Replica

Work: TypeAlias = Callable[[Cell], Awaitable[None]]

_LOOK = 0.3
"""Seconds between two looks at the fleet."""


def free_shards(fleet: FleetState) -> list[int]:
    """Return the shards that nobody owns."""
    return [one.shard for one in fleet.shards if not one.owner]


class Turns:
    """Runs a cell for each shard that this replica gets, for as long as it has the shard."""

    def __init__(
        self, replica: Replica, seat: Seat, fleet: Fleet, start: Work, wind_down: Work
    ) -> None:
        """Have no turn yet; ``start`` and ``wind_down`` are called with each cell."""
        self._replica = replica
        self._seat = seat
        self._fleet = fleet
        self._start = start
        self._wind_down = wind_down
        self._running: dict[int, asyncio.Task[None]] = {}

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
        for shard, turn in list(self._running.items()):
            if turn.done():
                del self._running[shard]
                turn.result()
        try:
            self._seat.learn(await self._fleet.look())
        except ForwarderError as error:
            self._fail(error)
            return
        for shard in free_shards(self._seat.fleet):
            if shard not in self._running:
                turn = asyncio.create_task(self._turn(shard, ending), name=f"shard:{shard}")
                self._running[shard] = turn

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
            await lease.release()

    async def _work(self, lease: Lease, taken: Taken, ending: asyncio.Task[None]) -> None:
        replica, lost = self._replica, asyncio.ensure_future(lease.lost())
        replica.emit(ShardTaken(taken.shard, taken.epoch, taken.former))
        try:
            async with Cell.opened(replica, lease) as cell:
                self._seat.fill(cell, taken.shard)
                starting = asyncio.ensure_future(self._start(cell))
                try:
                    await asyncio.wait({lost, starting}, return_when=asyncio.FIRST_COMPLETED)
                    if starting.done():
                        starting.result()
                        await asyncio.wait({lost, ending}, return_when=asyncio.FIRST_COMPLETED)
                    if not lost.done():
                        await self._wind_down(cell)
                        return
                finally:
                    starting.cancel()
                    with suppress(asyncio.CancelledError):
                        await starting
            replica.emit(JournalLost(taken.shard, lost.result()))
        finally:
            lost.cancel()
