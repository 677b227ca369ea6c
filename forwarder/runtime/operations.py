"""What an operator can have done to a journal: by the running daemon, or here while none runs.

Every operation takes and returns JSON values, so that it can travel through the control socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from forwarder.admin.arguments import Command, checked, flag, moment, numbers, text, texts
from forwarder.config import ForwarderSettings
from forwarder.core.contracts import StreamKey
from forwarder.core.timing import SystemClock, format_seconds
from forwarder.journal.dead_letters import drop_letters, replay_letters, replay_since, sink_number
from forwarder.journal.stream_log import move_cursor
from forwarder.runtime.cell import Cell
from forwarder.runtime.replica import Replica, libraries_logged, run_fast, telemetry_of
from forwarder.runtime.status import Overview

OnProgress = Callable[[Mapping[str, Any]], None]

_LOOK = 0.3
_GRACE = 20.0


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
        }

    async def drop_dead_letters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Delete dead letters of ``sink`` (``ids``, or all); answers ``events``."""
        sink, ids = str(given["sink"]), given.get("ids")
        # Deleting nothing from a sink that does not exist would look like success.
        await self._journal.ask(lambda c: sink_number(c, sink))
        now_us = self._replica.clock.now_us()
        count = await self._journal.tell(lambda c: drop_letters(c, sink, ids, now_us))
        return {"events": count}

    async def replay_dead_letters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Deliver dead letters of ``sink`` again (``ids``, or all); answers ``events`` and lane."""
        sink, ids = str(given["sink"]), given.get("ids")
        lane, now_us = self._new_lane()
        count = await self._journal.tell(lambda c: replay_letters(c, lane, sink, ids, now_us))
        return {"events": count, "lane": lane}

    async def replay(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Deliver to ``sink`` what is kept since ``since_us``; answers ``events``, ``lane``."""
        sink, since_us, (lane, now_us) = (
            str(given["sink"]),
            int(given["since_us"]),
            self._new_lane(),
        )
        count = await self._journal.tell(lambda c: replay_since(c, lane, sink, since_us, now_us))
        return {"events": count, "lane": lane}

    async def set_cursor(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Move the live position of a stream to ``to_us``; rows jumped over become a gap."""
        key = StreamKey(str(given["account_id"]), str(given["stream"]))
        to_us, now_us = int(given["to_us"]), self._replica.clock.now_us()

        async def move() -> Any:
            return await self._journal.tell(lambda c: move_cursor(c, key, to_us, now_us))

        # A poller keeps its position in memory and would write it back.
        cursor = await self._cell.streams.paused(key.account_id, move)
        return {"covered_until": format_seconds(cursor.covered_until_us)}

    def _new_lane(self) -> tuple[str, int]:
        """Return a name that no lane has, and the time; microseconds are unique in a journal."""
        now_us = self._replica.clock.now_us()
        return f"replay:{now_us:x}", now_us


def carry_out(settings: ForwarderSettings, name: str, given: Mapping[str, Any]) -> Any:
    """Carry out one operation (see ``Operations.table``) while no daemon runs; return its answer.

    Raises ``LockedError`` if a daemon starts meanwhile, and what the operation raises.
    """

    async def work() -> Mapping[str, Any]:
        async with _alone(settings) as (replica, cell):
            await cell.sinks.join(settings.sinks)
            return await Operations(replica, cell).table()[name](given)

    return run_fast(work())


def backfill(
    settings: ForwarderSettings, given: Mapping[str, Any], progress: OnProgress
) -> Mapping[str, Any]:
    """Read a backfill and deliver it while no daemon runs; return when every sink has it.

    ``progress`` is called with the status now and then. If interrupted, the backfill continues
    when a daemon starts.
    """

    async def work() -> Mapping[str, Any]:
        async with _alone(settings) as (replica, cell):
            overview = Overview(replica, cell)
            await cell.sinks.join(settings.sinks)
            await cell.streams.start(settings.accounts, poll=False)
            cell.sinks.start(sink.name for sink in settings.sinks)
            answer = await Operations(replica, cell).table()["backfill"](given)
            # Open until the sinks have everything; the reading ends earlier.
            while await cell.backfills.is_open(answer["lane"]):
                progress(await overview.status())
                await asyncio.sleep(_LOOK)
            progress(await overview.status())
            await cell.streams.stop()
            await cell.sinks.drain(cell.sinks.settings, _GRACE)
            return await cell.backfills.rows(answer)

    return run_fast(work())


@asynccontextmanager
async def _alone(settings: ForwarderSettings) -> AsyncIterator[tuple[Replica, Cell]]:
    """Open the journal, which takes its lock; nothing runs yet."""
    telemetry = telemetry_of(settings)
    replica = Replica(settings, telemetry, SystemClock())
    with libraries_logged(telemetry.observer):
        async with Cell.opened(replica) as cell:
            yield replica, cell
