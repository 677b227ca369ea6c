"""What an operator can do to the journal, beside a running daemon or without one.

Each operation takes and gives JSON values, so that it can travel through the control socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forwarder.admin.server import Command
from forwarder.core.contracts import StreamKey
from forwarder.core.errors import StateError
from forwarder.core.timing import Clock, format_seconds
from forwarder.journal import Journal
from forwarder.journal.dead_letters import drop_letters, replay_letters, replay_since, sink_number
from forwarder.journal.lanes import cancel_lane
from forwarder.journal.stream_log import move_cursor


class Operations:
    """Operations on one open journal."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Hold the journal; its lock is held with it."""
        self._journal = journal
        self._clock = clock

    def table(self) -> dict[str, Command]:
        """Return the operations by name."""
        return {
            "dead-letters-drop": self.drop_dead_letters,
            "dead-letters-replay": self.replay_dead_letters,
            "replay": self.replay,
            "lane-cancel": self.cancel_lane,
            "cursor-set": self.set_cursor,
        }

    async def drop_dead_letters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Forget dead letters of ``sink`` (``ids``, or all); answers ``events``."""
        sink, ids = str(given["sink"]), given.get("ids")
        await self._journal.ask(lambda c: sink_number(c, sink))
        count = await self._journal.tell(lambda c: drop_letters(c, sink, ids))
        return {"events": count}

    async def replay_dead_letters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Deliver dead letters of ``sink`` again (``ids``, or all); tells ``events``, ``lane``."""
        sink, ids, lane = str(given["sink"]), given.get("ids"), self._lane("replay")
        now_us = self._clock.now_us()
        count = await self._journal.tell(lambda c: replay_letters(c, lane, sink, ids, now_us))
        return {"events": count, "lane": lane}

    async def replay(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Deliver to ``sink`` what is kept since ``since_us``; tells ``events``, ``lane``."""
        sink, since_us, lane = str(given["sink"]), int(given["since_us"]), self._lane("replay")
        now_us = self._clock.now_us()
        count = await self._journal.tell(lambda c: replay_since(c, lane, sink, since_us, now_us))
        return {"events": count, "lane": lane}

    async def cancel_lane(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stop the backfill or replay called ``lane``."""
        lane = str(given["lane"])
        if not await self._journal.tell(lambda c: cancel_lane(c, lane)):
            raise StateError(f"no open lane is called {lane}; `forwarder status` lists them")
        return {"lane": lane}

    async def set_cursor(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Move the live position of a stream to ``to_us``; rows jumped over become a gap."""
        key = StreamKey(str(given["account_id"]), str(given["stream"]))
        to_us, now_us = int(given["to_us"]), self._clock.now_us()
        cursor = await self._journal.tell(lambda c: move_cursor(c, key, to_us, now_us))
        return {"covered_until": format_seconds(cursor.covered_until_us)}

    def _lane(self, kind: str) -> str:
        """Return a name that nobody used yet: the moment in microseconds is unique here."""
        return f"{kind}:{self._clock.now_us():x}"
