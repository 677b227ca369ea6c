"""HEC's channels: under which name batches are sent, and which ids are still unacknowledged.

Ids count from 0 for each channel in the memory of one Splunk node. After a restart of that node,
or behind a balancer that moved us to another one, the same ids are given out again for other
batches. So a channel is given up whenever the connection was in doubt, and when an id comes twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch that waits for its acknowledgement until ``deadline`` (monotonic seconds).

    ``verdict`` becomes True when it is acknowledged and False when nobody acknowledges here.
    """

    verdict: asyncio.Future[bool]
    deadline: float


@dataclass(eq=False, slots=True)
class Channel:
    """One name for one node, and what waits under it."""

    url: str
    id: str
    waiting: dict[int, Waiting] = field(default_factory=dict)
    misses: int = 0
    _recent: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def is_news(self, ack_id: int) -> bool:
        """Remember ``ack_id``; False when it cannot be new, so that the node is another one."""
        fresh = ack_id not in self._recent and ack_id > max(self._recent, default=0) - _REMEMBERED
        self._recent.append(ack_id)
        return fresh

    def fail(self, error: Exception) -> None:
        """Let everything that waits here fail with ``error``."""
        for waiting in self.waiting.values():
            if not waiting.verdict.done():
                waiting.verdict.set_exception(error)
        self.waiting.clear()


class Channels:
    """One channel an address, new at every start and after every doubt."""

    def __init__(self, new_id: Callable[[], str] = lambda: str(uuid4())) -> None:
        """Take what makes the GUIDs."""
        self._new_id = new_id
        self._current: dict[str, Channel] = {}

    def current(self, url: str) -> Channel:
        """Return the channel for the next batch to ``url``."""
        channel = self._current.get(url)
        if channel is None:
            channel = self._current[url] = Channel(url, self._new_id())
        return channel

    def give_up(self, channel: Channel) -> None:
        """Send nothing more under ``channel``; what waits there may still be acknowledged."""
        if self._current.get(channel.url) is channel:
            del self._current[channel.url]
