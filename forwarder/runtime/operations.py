"""What changes a journal by command: the same objects in a daemon and in a command that finds none.

What a command elsewhere wants of the owner of a shared journal is a request (``Requests``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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
from forwarder.core.contracts import StreamKey
from forwarder.core.errors import BadRequestError
from forwarder.core.journal import Cursor, Journal
from forwarder.core.lease import Lease
from forwarder.core.timing import Clock, format_seconds
from forwarder.runtime.cell import Cell, Seat
from forwarder.runtime.replica import Replica

_REQUEST_LOOK = 0.3
"""Seconds between two looks for requests."""


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
        named = {"lane": text}
        chosen = {"again": flag, "accounts": texts, "streams": texts, "sinks": texts} | named
        cursor = {"account_id": text, "stream": text, "to_us": moment}
        return {
            "dead-letters-drop": checked(self.drop_dead_letters, letters, {"ids": numbers}),
            "dead-letters-replay": checked(
                self.replay_dead_letters, letters, {"ids": numbers} | named
            ),
            "replay": checked(self.replay, {"sink": text, "since_us": moment}, named),
            "backfill": checked(self.backfill, window, chosen),
            "backfill-rows": checked(self.backfill_rows, named),
            "lane-cancel": checked(self.cancel_lane, named),
            "cursor-set": checked(self.set_cursor, cursor),
            "sink-forget": checked(self.forget_sink, {"sink": text}),
        }

    async def drop_dead_letters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Delete dead letters of ``sink`` (``ids``, or all); answers ``events``."""
        return {"events": await self._journal.drop_letters(str(given["sink"]), given.get("ids"))}

    async def replay_dead_letters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Deliver dead letters of ``sink`` again (``ids``, or all); answers ``events`` and lane."""
        lane = self._lane(given)
        count = await self._journal.replay_letters(lane, str(given["sink"]), given.get("ids"))
        return {"events": count, "lane": lane}

    async def replay(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Deliver to ``sink`` what is kept since ``since_us``; answers ``events``, ``lane``.

        A ``lane`` that is there already stays as it is.
        """
        lane = self._lane(given)
        if await self._cell.backfills.is_known(lane):
            return {"events": 0, "lane": lane}
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
        cursor = await self._cell.paused(key.account_id, move)
        clamped = cursor.covered_until_us < to_us
        return {"covered_until": format_seconds(cursor.covered_until_us), "clamped": clamped}

    def _lane(self, given: Mapping[str, Any]) -> str:
        """Return the name given to a lane, or one that no lane has."""
        lane = str(given.get("lane") or f"replay:{self._replica.clock.now_us():x}")
        if not lane.startswith("replay:"):
            raise BadRequestError(f"{lane} is no lane of a replay; its name begins with replay:")
        return lane


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
