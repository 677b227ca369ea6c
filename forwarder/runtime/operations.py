"""What changes a journal by command: the same objects in a daemon and in a command that finds none.

A command that finds no daemon opens the cell itself. If another process owns a shared journal, the
command is a request to it (``Requests``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

from forwarder.admin.control import (
    Command,
    carried_out,
    checked,
    flag,
    moment,
    numbers,
    text,
    texts,
)
from forwarder.config import ForwarderSettings, JournalSettings
from forwarder.core.contracts import StreamKey
from forwarder.core.errors import FreeShardError, LockedError, StateError
from forwarder.core.journal import Cursor, Journal
from forwarder.core.lease import Fleet, Lease
from forwarder.core.timing import Clock, SystemClock, format_seconds
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.opening import asking, fleet_of
from forwarder.runtime.replica import Replica, libraries_logged, run_fast, telemetry_of
from forwarder.runtime.status import Overview

Alone: TypeAlias = Callable[[], Awaitable[Any]]
OnProgress: TypeAlias = Callable[[Mapping[str, Any]], None]
"""Takes the status as JSON values."""

_LOOK = 0.3
_REQUEST_LOOK = 0.3
"""Seconds between two looks for requests."""
_LAST_WRITES = 21.0
"""Seconds for writes in flight to settle before the journal is closed."""


class Operations:
    """Operations on the journal of one cell."""

    def __init__(self, replica: Replica, seat: Seat, shard: int = 0) -> None:
        """Work on the cell that ``seat`` has at that moment, whether its sinks run or not."""
        self._replica = replica
        self._seat = seat
        self._shard = shard

    @property
    def _cell(self) -> Cell:
        return self._seat.expect(self._shard)

    @property
    def _journal(self) -> Journal:
        return self._cell.journal

    def table(self) -> dict[str, Command]:
        """Return the operations by name; each checks its arguments before it does anything."""
        letters = {"sink": text}
        window = {"since_us": moment, "until_us": moment}
        chosen = {"again": flag, "accounts": texts, "streams": texts, "sinks": texts}
        cursor = {"account_id": text, "stream": text, "to_us": moment}
        return {
            "dead-letters-drop": checked(self.drop_dead_letters, letters, {"ids": numbers}),
            "dead-letters-replay": checked(self.replay_dead_letters, letters, {"ids": numbers}),
            "replay": checked(self.replay, {"sink": text, "since_us": moment}),
            "backfill": checked(self.backfill, window, chosen),
            "backfill-rows": checked(self.backfill_rows, {"lane": text}),
            "lane-cancel": checked(self.cancel_lane, {"lane": text}),
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

    async def backfill(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Begin a backfill; see ``Backfills.begin``."""
        return await self._cell.backfills.begin(given)

    async def backfill_rows(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer how many rows a backfill has stored; see ``Backfills.rows``."""
        return await self._cell.backfills.rows(given)

    async def cancel_lane(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """End a lane before its time; see ``Backfills.cancel``."""
        return await self._cell.backfills.cancel(given)

    async def forget_sink(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give up the places of an absent ``sink``; answers ``events`` and ``dead_letters``."""
        forgotten = await self._journal.forget_sink(str(given["sink"]))
        return {"events": forgotten.events, "dead_letters": forgotten.dead_letters}

    async def set_cursor(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Move the live position of a stream to ``to_us``; rows jumped over become a gap."""
        key = StreamKey(str(given["account_id"]), str(given["stream"]))
        to_us = int(given["to_us"])

        async def move() -> Cursor:
            return await self._journal.move_cursor(key, to_us)

        # A poller keeps its position in memory and would write it back.
        cursor = await self._cell.streams.paused(key.account_id, move)
        clamped = cursor.covered_until_us < to_us
        return {"covered_until": format_seconds(cursor.covered_until_us), "clamped": clamped}

    def _new_lane(self) -> str:
        """Return a name that no lane has; microseconds are unique in a journal."""
        return f"replay:{self._replica.clock.now_us():x}"


class Requests:
    """Takes the requests to the owner of a shard, one after the other, and answers them."""

    def __init__(self, lease: Lease, commands: Mapping[str, Command], clock: Clock) -> None:
        """Take nothing yet; the journal of ``lease`` is open."""
        self._lease = lease
        self._commands = commands
        self._clock = clock

    async def run(self, beat: Callable[[], None]) -> None:
        """Take and answer requests for ever.

        If it is cancelled at one, nobody answers that: whoever asked sees that the owner has gone.
        """
        while True:
            beat()
            request = await self._lease.next_request()
            if request is None:
                await self._clock.sleep(_REQUEST_LOOK)
                continue
            status, content = await carried_out(self._commands, request.command, request.given)
            await self._lease.answer(request, status, content)


def routed(table: Mapping[str, Command], seat: Seat, fleet: Fleet) -> dict[str, Command]:
    """Return operations that the owner of the journal carries out, which may be elsewhere."""

    def route(name: str, command: Command) -> Command:
        async def run(given: Mapping[str, Any]) -> Mapping[str, Any]:
            if 0 in seat.cells:
                return await command(given)
            answer: Mapping[str, Any] = accepted(*await fleet.ask(0, name, given, patient=True))
            return answer

        return run

    return {name: route(name, command) for name, command in table.items()}


def carry_out(
    journal: JournalSettings,
    settings: ForwarderSettings | None,
    name: str,
    given: Mapping[str, Any],
) -> Any:
    """Carry out one operation (see ``Operations.table``) while no daemon runs here.

    Done by the owner of a shared journal, or by this process if nobody owns it, for which it needs
    all ``settings``. Returns the answer. Raises ``LockedError`` if a daemon starts meanwhile,
    ``StateError`` if the owner refuses, and what the operation or ``Fleet.ask`` raises.
    """

    async def alone(whole: ForwarderSettings) -> Mapping[str, Any]:
        async with _alone(whole) as (replica, seat):
            cell = seat.expect()
            await cell.sinks.join(whole.sinks)
            return await Operations(replica, seat).table()[name](given)

    if settings is None:
        return ask_owner(journal, name, given)
    here = partial(alone, settings)
    return run_fast(
        here() if journal.type == "sqlite" else _by_somebody(journal, name, given, here)
    )


def ask_owner(
    journal: JournalSettings, name: str, given: Mapping[str, Any], *, patient: bool = True
) -> Any:
    """Have the owner of a shared journal carry out a command; raises as ``Fleet.ask``."""

    async def work() -> Any:
        async with asking(journal) as fleet:
            return accepted(*await fleet.ask(0, name, given, patient=patient))

    return run_fast(work())


async def _by_somebody(
    journal: JournalSettings, name: str, given: Mapping[str, Any], alone: Alone
) -> Any:
    """Do it ``alone`` if nobody owns the shard, or else ask the owner."""
    async with asking(journal) as fleet:
        for patient in (False, True):
            with suppress(LockedError):
                return await alone()
            with suppress(FreeShardError):  # its owner has gone meanwhile
                return accepted(*await fleet.ask(0, name, given, patient=patient))
    raise AssertionError("patience ends with an answer or another error")


def accepted(status: int, content: Any) -> Any:
    """Return the content of an owner's answer; raises ``StateError`` if it is a refusal."""
    if status >= 400:  # noqa: PLR2004 - HTTP's own line between success and failure
        raise StateError("; ".join(map(str, content["errors"])))
    return content


def backfill(
    settings: ForwarderSettings, given: Mapping[str, Any], progress: OnProgress
) -> Mapping[str, Any]:
    """Read a backfill and deliver it while no daemon runs; return when every sink has it.

    ``progress`` is called with the status now and then. If interrupted, the backfill continues
    when a daemon starts. Raises ``LockedError`` if somebody has the journal.
    """

    async def work() -> Mapping[str, Any]:
        async with _alone(settings) as (replica, seat):
            cell, overview = seat.expect(), Overview(replica, seat)
            await cell.sinks.join(settings.sinks)
            await cell.streams.start(settings.accounts, poll=False)
            cell.sinks.start(sink.name for sink in settings.sinks)
            answer = await Operations(replica, seat).table()["backfill"](given)
            # Open until the sinks have everything; the reading ends earlier.
            while await cell.backfills.is_open(answer["lane"]):
                progress(await overview.status())
                await asyncio.sleep(_LOOK)
            progress(await overview.status())
            await cell.streams.stop()
            await cell.sinks.drain(cell.sinks.settings, _LAST_WRITES)
            return await cell.backfills.rows(answer)

    return run_fast(work())


@asynccontextmanager
async def _alone(settings: ForwarderSettings) -> AsyncIterator[tuple[Replica, Seat]]:
    """Open the journal, which takes its lock; nothing runs yet."""
    telemetry = telemetry_of(settings)
    replica = Replica(settings, telemetry, SystemClock())
    with libraries_logged(telemetry.observer):
        async with fleet_of(settings, clock=replica.clock) as fleet:
            lease = None if fleet is None else fleet.lease(0)
            if lease is not None and not await lease.take():
                raise LockedError("another replica has the journal")
            try:
                async with Cell.opened(replica, lease) as cell:
                    seat = Seat()
                    seat.fill(cell)
                    yield replica, seat
            finally:
                if lease is not None:
                    await lease.release()
