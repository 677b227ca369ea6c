"""Tells waiting sinks that a lane has grown, or that there are other lanes now."""

from __future__ import annotations

import asyncio


class Tide:
    """The end of every lane as the event loop knows it; not thread-safe, not durable."""

    def __init__(self) -> None:
        """Know no lane yet."""
        self._ends: dict[str, int] = {}
        self._version = 0
        self._event = asyncio.Event()

    def rise(self, lane: str, end_offset: int) -> None:
        """Say that ``lane`` now has rows below ``end_offset``; called after the commit."""
        if end_offset > self._ends.get(lane, 0):
            self._ends[lane] = end_offset
            self._wake()

    def change_lanes(self) -> None:
        """Say that lanes were added, ended or cancelled."""
        self._version += 1
        self._wake()

    async def wait(self, lane: str, offset: int) -> None:
        """Return when rows at or above ``offset`` may exist, or the lanes have changed."""
        version = self._version
        while self._ends.get(lane, 0) <= offset and version == self._version:
            await self._event.wait()

    def _wake(self) -> None:
        self._event.set()
        self._event = asyncio.Event()
