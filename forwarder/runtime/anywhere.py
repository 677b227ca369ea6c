"""Commands from anywhere: the owner of each shard does its part, or this process if there is none.

``routing`` decides which shards a command concerns; here they are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import chain
from typing import Any, TypeAlias

from forwarder.admin.control import Command
from forwarder.config import ForwarderSettings, JournalSettings
from forwarder.core.errors import (
    AbsentError,
    ForwarderError,
    FreeShardError,
    LockedError,
    StateError,
)
from forwarder.core.lease import Fleet, ShardOwner
from forwarder.core.timing import SystemClock
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.opening import asking, fleet_of, shards_of
from forwarder.runtime.operations import Operations
from forwarder.runtime.replica import Replica, libraries_logged, run_fast, telemetry_of
from forwarder.runtime.routing import (
    Answer,
    Given,
    Layout,
    Status,
    merged,
    merged_status,
    parts,
    reasons_of,
    shown,
    unseen,
)
from forwarder.runtime.status import Overview

Do: TypeAlias = Callable[[int, Given], Awaitable[Given]]
"""Carries out a command in one shard."""

_LOOK = 0.3
_LAST_WRITES = 21.0
"""Seconds for writes in flight to settle before the journal is closed."""
_AT_ONCE = 8
"""Shards that are asked at the same time: each needs connections to the database."""


class StandIn:
    """This process, which takes shards that no replica owns for as long as a command needs."""

    def __init__(self, replica: Replica, fleet: Fleet | None) -> None:
        """Have no shard yet."""
        self.replica = replica
        self.seat = Seat()
        self._fleet = fleet

    @asynccontextmanager
    async def opened(self, shard: int, shards: int = 1) -> AsyncIterator[Cell]:
        """Open one of so many shards; nothing in it runs. Raises ``LockedError`` if it is owned."""
        lease = None if self._fleet is None else self._fleet.lease(shard)
        if lease is not None and not await lease.take():
            raise LockedError(f"a replica has shard {shard} of the journal")
        try:
            await self.placed(shards)
            async with Cell.opened(self.replica, lease, self.seat) as cell:
                self.seat.fill(cell)
                await cell.sinks.join(self.replica.settings.sinks)
                yield cell
        finally:
            self.seat.clear(shard)
            if lease is not None:
                await lease.release()

    async def placed(self, shards: int) -> Mapping[str, int]:
        """Return the shard of each account, after those of the settings got theirs."""
        if self._fleet is not None:
            self.replica.join(self._fleet, shards)
            await self.replica.place(self.replica.settings)
        return self.replica.placed

    async def do(self, shard: int, shards: int, name: str, given: Given) -> Given:
        """Carry out an operation in one of so many shards; raises as ``opened``."""
        async with self.opened(shard, shards):
            return await Operations(self.replica, self.seat, shard).table()[name](given)


@asynccontextmanager
async def _standing_in(settings: ForwarderSettings) -> AsyncIterator[StandIn]:
    """Raises ``LockedError`` if a process uses the state folder of a shared journal."""
    telemetry = telemetry_of(settings)
    replica = Replica(settings, telemetry, SystemClock())
    with libraries_logged(telemetry.observer):
        async with fleet_of(settings, clock=replica.clock) as fleet:
            yield StandIn(replica, fleet)


async def _everywhere(name: str, given: Given, layout: Layout, do: Do) -> Given:
    """Carry out a command in every shard that it concerns; raises as ``parts`` and ``merged``."""
    return await _all(name, parts(name, given, layout, SystemClock().now_us()), do)


async def _all(name: str, wanted: Mapping[int, Given], do: Do) -> Given:
    free = asyncio.Semaphore(_AT_ONCE)

    async def answer(shard: int) -> Answer:
        async with free:
            try:
                return await do(shard, wanted[shard])
            except ForwarderError as error:
                return error

    answers = await asyncio.gather(*map(answer, wanted))
    return merged(name, wanted, dict(zip(wanted, answers, strict=True)))


def routed(replica: Replica, seat: Seat, fleet: Fleet) -> dict[str, Command]:
    """Return operations for the socket of a replica, which may have none of the shards."""

    def route(name: str) -> Command:
        async def do(shard: int, given: Given) -> Given:
            cell = seat.cells.get(shard)
            # One that has not started has no streams yet; its owner takes requests afterwards.
            if cell is not None and cell.started:
                return await Operations(replica, seat, shard).table()[name](given)
            return _accepted(*await fleet.ask(shard, name, given, patient=True))

        async def run(given: Given) -> Given:
            shards, older = [one.shard for one in seat.fleet.shards], seat.fleet.older
            if older:
                raise StateError(f"waits for {', '.join(older)} of an older release, which work")
            if not shards:
                raise StateError("the database of the journal has not answered yet")
            labels = replica.rendering.labels
            return await _everywhere(name, given, Layout(shards, replica.placed, labels), do)

        return run

    return {name: route(name) for name in Operations(replica, seat).table()}


def carry_out(
    journal: JournalSettings,
    settings: ForwarderSettings | None,
    name: str,
    given: Given,
    labels: Mapping[str, str],
) -> Any:
    """Carry out one operation (see ``Operations.table``) while no daemon runs here.

    Done by the owners of a shared journal, and by this process in shards that nobody owns, for
    which it needs all ``settings``; ``labels`` are the accounts' names by id. Returns the answer.
    Raises ``LockedError`` if a daemon starts meanwhile, ``StateError`` if the owner refuses, and
    what the operation, ``Fleet.ask`` or ``routing.merged`` raises.
    """

    async def work() -> Given:
        async with AsyncExitStack() as stack:
            here: StandIn | None = None
            if settings is not None and journal.type == "sqlite":
                here = await stack.enter_async_context(_standing_in(settings))
                return await here.do(0, 1, name, given)
            fleet, owners, placed = await stack.enter_async_context(asking(journal))
            shards = [one.shard for one in owners]
            if settings is not None:
                with suppress(LockedError):  # a replica runs here: it takes what is free
                    here = await stack.enter_async_context(_standing_in(settings))

            async def do(shard: int, part: Given) -> Given:
                for patient in (False, True):
                    if here is not None:
                        with suppress(LockedError):
                            return await here.do(shard, len(shards), name, part)
                    with suppress(FreeShardError):  # its owner has gone meanwhile
                        waits = patient or here is None
                        return _accepted(*await fleet.ask(shard, name, part, patient=waits))
                raise AssertionError("patience ends with an answer or another error")

            return await _everywhere(name, given, Layout(shards, placed, labels), do)

    return run_fast(work())


def ask_owners(journal: JournalSettings, name: str, given: Given, labels: Mapping[str, str]) -> Any:
    """Have the owners of a shared journal carry out a command; raises as ``carry_out``."""
    return carry_out(journal, None, name, given, labels)


def status(journal: JournalSettings, mine: Status | None = None, *, patient: bool = False) -> Any:
    """Return the status of a shared journal out of those of its owners, and ``mine``.

    With ``patient`` every shard gets time to find an owner, and one that finds none is an error.
    Otherwise the status says so, unless nobody answers; that raises ``FreeShardError``.
    """

    async def work() -> Status:
        async with asking(journal) as (fleet, owners, _):
            found, failed = await statuses_of(fleet, owners, mine, patient=patient)
        if failed and (patient or not found):
            raise StateError(reasons_of(failed))
        return merged_status(found, failed)

    return run_fast(work())


async def statuses_of(
    fleet: Fleet, owners: Sequence[ShardOwner], mine: Status | None, *, patient: bool
) -> tuple[list[Status], dict[int, ForwarderError]]:
    """Return ``mine`` and what the owners of the other shards say, and why shards are missing."""
    found = [] if mine is None else [mine]
    failed: dict[int, ForwarderError] = {}

    async def ask(shards: Sequence[int]) -> None:
        try:
            found.append(_accepted(*await fleet.ask(shards[0], "status", {}, patient=patient)))
        except ForwarderError as error:
            failed.update(dict.fromkeys(shards, error))

    await asyncio.gather(*map(ask, unseen(owners, found)))
    # A shard that has moved meanwhile is in no answer, or not in that of its former owner.
    moved = chain.from_iterable(unseen(owners, found))
    await asyncio.gather(*(ask([shard]) for shard in moved if shard not in failed))
    for shard in chain.from_iterable(unseen(owners, found)):
        failed.setdefault(shard, StateError("its owner changed meanwhile; repeat the command"))
    return found, {shard: failed[shard] for shard in failed if shard not in shown(found)}


def _accepted(answered: int, content: Any) -> Given:
    """Return the content of an owner's answer; raises ``StateError`` if it is a refusal."""
    if answered >= 400:  # noqa: PLR2004 - HTTP's own line between success and failure
        error = AbsentError if answered == 404 else StateError  # noqa: PLR2004 - likewise
        raise error("; ".join(map(str, content["errors"])))
    found: Given = content
    return found


def backfill(
    settings: ForwarderSettings, given: Given, progress: Callable[[Status], None]
) -> Given:
    """Read a backfill and deliver it while no daemon runs; return when every sink has it.

    ``progress`` is called with the status now and then. If interrupted, the backfill continues
    when a daemon starts. Raises ``LockedError`` if somebody has one of the shards.
    """

    async def work() -> Given:
        async with AsyncExitStack() as stack:
            here = await stack.enter_async_context(_standing_in(settings))
            layout = await _layout(here, settings)
            wanted = parts("backfill", given, layout, here.replica.clock.now_us())
            cells: dict[int, Cell] = {}
            for shard in wanted:
                opened = here.opened(shard, len(layout.shards))
                cells[shard] = await stack.enter_async_context(opened)
            return await _backfilled(here, cells, wanted, progress)

    return run_fast(work())


async def _layout(here: StandIn, settings: ForwarderSettings) -> Layout:
    """Return where the accounts of the settings are; those that were nowhere get their shard."""
    if settings.root.journal.type == "sqlite":
        return Layout((0,))
    owners, _ = await asyncio.to_thread(shards_of, settings.root.journal)
    placed = await here.placed(len(owners))
    labels = {one.account_id: one.label for one in settings.accounts}
    return Layout([one.shard for one in owners], placed, labels)


async def _backfilled(
    here: StandIn,
    cells: Mapping[int, Cell],
    wanted: Mapping[int, Given],
    progress: Callable[[Status], None],
) -> Given:
    async def begin(shard: int, part: Given) -> Given:
        cell, settings = cells[shard], here.replica.settings
        await cell.streams.start(cell.own(settings), poll=False)
        cell.sinks.start(sink.name for sink in settings.sinks)
        return await cell.backfills.begin(part)

    answer = await _all("backfill", wanted, begin)
    overview, reading = Overview(here.replica, here.seat), answer.get("shards", wanted)
    # Open until the sinks have everything; the reading ends earlier.
    while any([await cells[shard].backfills.is_open(answer["lane"]) for shard in reading]):
        progress(await overview.status())
        await asyncio.sleep(_LOOK)
    progress(await overview.status())
    for cell in cells.values():
        await cell.streams.stop()
    await asyncio.gather(
        *(cell.sinks.drain(cell.sinks.settings, _LAST_WRITES) for cell in cells.values())
    )
    rows = [await cells[shard].backfills.rows(answer) for shard in reading]
    return {"lane": answer["lane"], "rows": sum(one["rows"] for one in rows)}
