"""Indexer acknowledgement: channels and ids.

HEC's channels: under which name batches are sent, and which ids are still unacknowledged.

Ids count from 0 for each channel in the memory of one Splunk node. After a restart of that node,
or behind a balancer that moved us to another one, the same ids are given out again for other
batches. So a channel is given up whenever the connection was in doubt, and when an id comes twice.

Waiting for indexer acknowledgements: many batches wait, one task asks for all of them.

HEC says ``true`` for an id once and forgets it. An id that was never given, was given by another
node or was already answered is ``false`` for ever; only the time-out tells those from a slow one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import uuid4

from forwarder.core.errors import TransientError
from forwarder.core.timing import Clock
from forwarder.sinks.splunk_hec.answers import AcksDisabledError

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


Ask: TypeAlias = Callable[[Channel, Sequence[int]], Awaitable[Mapping[int, bool]]]

_MISSES = 3
"""Questions in a row that may fail before what waits is sent again: the node is gone."""
_HURRY = 0.2
"""Seconds between two questions while the node's list of acknowledgements is nearly full."""


class Acks:
    """The acknowledgements that one sink waits for."""

    def __init__(
        self, ask: Ask, channels: Channels, clock: Clock, *, interval: float, patience: float
    ) -> None:
        """Ask every ``interval`` seconds, and give each batch ``patience`` seconds."""
        self._ask = ask
        self._channels = channels
        self._clock = clock
        self._interval = interval
        self._patience = patience
        self._asked: set[Channel] = set()
        self._task: asyncio.Task[None] | None = None
        self._hurried = False

    async def acknowledged(self, channel: Channel, ack_id: int) -> bool:
        """Return True when the batch is acknowledged, False when the node acknowledges nothing.

        Raises ``TransientError`` when that took too long or the node was lost: send it again.
        """
        if not channel.is_news(ack_id):
            self._channels.give_up(channel)
            error = TransientError(
                "an acknowledgement number came twice: Splunk was restarted, or another node "
                "answered",
                hint="behind a load balancer acknowledgements need sticky sessions",
            )
            channel.fail(error)
            raise error
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        channel.waiting[ack_id] = Waiting(verdict, self._clock.monotonic() + self._patience)
        self._asked.add(channel)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="splunk_hec acknowledgements")
        try:
            return await verdict
        finally:
            channel.waiting.pop(ack_id, None)

    def hurry(self) -> None:
        """Ask sooner next time; the node runs out of room for acknowledgements."""
        self._hurried = True

    async def aclose(self) -> None:
        """Stop asking; what still waits fails and will be sent again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        """Ask as long as anything waits; however it ends, nobody is left waiting."""
        try:
            while self._asked:
                hurried, self._hurried = self._hurried, False
                await self._clock.sleep(min(self._interval, _HURRY) if hurried else self._interval)
                await asyncio.gather(*(self._question(channel) for channel in self._asked))
                self._asked = {channel for channel in self._asked if channel.waiting}
        finally:
            for channel in self._asked:
                channel.fail(TransientError("nobody asks for acknowledgements any more"))
            self._asked.clear()

    async def _question(self, channel: Channel) -> None:
        """Ask for everything that waits in one channel, and settle what can be settled."""
        ids = sorted(channel.waiting)
        if not ids:
            return
        try:
            answer = await self._ask(channel, ids)
        except AcksDisabledError:
            self._settle(channel, dict.fromkeys(ids, False), disabled=True)
        except TransientError as error:
            self._missed(channel, error)
        else:
            channel.misses = 0
            self._settle(channel, answer)
        self._expire(channel)

    def _settle(
        self, channel: Channel, answer: Mapping[int, bool], *, disabled: bool = False
    ) -> None:
        for ack_id, acknowledged in answer.items():
            waiting = channel.waiting.get(ack_id)
            if waiting and (acknowledged or disabled) and not waiting.verdict.done():
                waiting.verdict.set_result(acknowledged)

    def _missed(self, channel: Channel, error: TransientError) -> None:
        """Count a question without an answer; nothing new is sent on a channel in doubt."""
        self._channels.give_up(channel)
        channel.misses += 1
        if channel.misses >= _MISSES:
            channel.fail(error)

    def _expire(self, channel: Channel) -> None:
        now = self._clock.monotonic()
        for waiting in channel.waiting.values():
            if now >= waiting.deadline and not waiting.verdict.done():
                waiting.verdict.set_exception(
                    TransientError(
                        f"no acknowledgement within {self._patience:g} s; sending again",
                        hint="Splunk's indexing may be slow or blocked; see its queues",
                    )
                )
