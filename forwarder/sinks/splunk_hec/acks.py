"""Indexer acknowledgement: channels, ids, and one task that asks for all batches that wait.

Ids count from 0 for each channel in the memory of one Splunk node. After a restart of that node,
or behind a balancer that moved us to another one, the same ids are given out again for other
batches. So a channel is given up whenever the connection was in doubt, and when an id comes twice.

HEC says ``true`` for an id once and forgets it. An id that was never given, was given by another
node or was already answered is ``false`` for ever; only the time limit tells those from a slow one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import uuid4

from forwarder.core.errors import TransientError
from forwarder.core.timing import Clock
from forwarder.sinks.splunk_hec.answers import AcksDisabledError

_REMEMBERED = 4096
# Questions in a row that may fail before the batches that wait are sent again.
_MOST_MISSES = 3
# Seconds between two questions while the node's list of acknowledgements is nearly full.
_HURRY = 0.2


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A batch that waits for its acknowledgement until ``deadline`` (monotonic seconds).

    ``verdict`` becomes True when it is acknowledged and False when the token has no
    acknowledgement.
    """

    verdict: asyncio.Future[bool]
    deadline: float


class Channel:
    """One name for one node, and the batches that wait under it."""

    def __init__(self, url: str, identity: str) -> None:
        """Start with nothing that waits; ``identity`` is a GUID."""
        self.url = url
        self.id = identity
        self._waiting: dict[int, _Waiting] = {}
        self._misses = 0
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)

    @property
    def ids(self) -> list[int]:
        """Return the ids that wait, in order."""
        return sorted(self._waiting)

    def is_news(self, ack_id: int) -> bool:
        """Remember ``ack_id``; False when it cannot be new, so that the node is another one."""
        # Ids rise by one, but answers overtake each other: only a repeat, or a number far below
        # the highest one, shows that another node counts.
        fresh = ack_id not in self._recent and ack_id > max(self._recent, default=0) - _REMEMBERED
        self._recent.append(ack_id)
        return fresh

    async def wait_for(self, ack_id: int, deadline: float) -> bool:
        """Return the verdict about ``ack_id``, or raise what the channel failed with."""
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[ack_id] = _Waiting(verdict, deadline)
        try:
            return await verdict
        finally:
            self._waiting.pop(ack_id, None)

    def settle(self, answer: Mapping[int, bool]) -> None:
        """End the wait of the ids that ``answer`` acknowledges."""
        self._misses = 0
        for ack_id, acknowledged in answer.items():
            if acknowledged:
                self._decide(ack_id, verdict=True)

    def acks_are_disabled(self) -> None:
        """End every wait: the token has no acknowledgement."""
        for ack_id in self._waiting:
            self._decide(ack_id, verdict=False)

    def missed(self, error: TransientError) -> None:
        """Count a question that failed; after a few in a row everything fails with ``error``."""
        self._misses += 1
        if self._misses >= _MOST_MISSES:
            self.fail(error)

    def expire(self, now: float, error: Callable[[], TransientError]) -> None:
        """Fail the batches whose deadline is before ``now``."""
        for waiting in self._waiting.values():
            if now >= waiting.deadline and not waiting.verdict.done():
                waiting.verdict.set_exception(error())

    def fail(self, error: TransientError) -> None:
        """Fail everything that waits here."""
        for waiting in self._waiting.values():
            if not waiting.verdict.done():
                waiting.verdict.set_exception(error)
        self._waiting.clear()

    def _decide(self, ack_id: int, *, verdict: bool) -> None:
        waiting = self._waiting.get(ack_id)
        if waiting is not None and not waiting.verdict.done():
            waiting.verdict.set_result(verdict)


class Channels:
    """One channel an address, new at every start and after every doubt."""

    def __init__(self) -> None:
        """Know no address yet."""
        self._current: dict[str, Channel] = {}

    def current(self, url: str) -> Channel:
        """Return the channel for the next batch to ``url``."""
        channel = self._current.get(url)
        if channel is None:
            channel = self._current[url] = Channel(url, str(uuid4()))
        return channel

    def give_up(self, channel: Channel) -> None:
        """Send nothing more under ``channel``; batches that wait may still be acknowledged."""
        if self._current.get(channel.url) is channel:
            del self._current[channel.url]


Ask: TypeAlias = Callable[[Channel, Sequence[int]], Awaitable[Mapping[int, bool]]]
"""Asks the collector which of the ids of a channel are acknowledged."""


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
        """Return True when the batch is acknowledged, False when the token has no acknowledgement.

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
        self._asked.add(channel)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="splunk_hec acknowledgements")
        return await channel.wait_for(ack_id, self._clock.monotonic() + self._patience)

    def hurry(self) -> None:
        """Ask sooner next time: the node runs out of room for acknowledgements."""
        self._hurried = True

    async def aclose(self) -> None:
        """Stop asking; the batches that wait fail and will be sent again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        """Ask as long as anything waits; however this ends, nobody is left waiting."""
        try:
            while self._asked:
                hurried, self._hurried = self._hurried, False
                await self._clock.sleep(min(self._interval, _HURRY) if hurried else self._interval)
                await asyncio.gather(*(self._question(channel) for channel in self._asked))
                self._asked = {channel for channel in self._asked if channel.ids}
        finally:
            for channel in self._asked:
                channel.fail(TransientError("nobody asks for acknowledgements any more"))
            self._asked.clear()

    async def _question(self, channel: Channel) -> None:
        """Ask for everything that waits in one channel, and settle what can be settled."""
        ids = channel.ids
        if not ids:
            return
        try:
            channel.settle(await self._ask(channel, ids))
        except AcksDisabledError:
            channel.acks_are_disabled()
        except TransientError as error:
            # The node may be gone, and with it the numbers: send nothing new under this name.
            self._channels.give_up(channel)
            channel.missed(error)
        channel.expire(self._clock.monotonic(), self._overdue)

    def _overdue(self) -> TransientError:
        return TransientError(
            f"no acknowledgement within {self._patience:g} s; sending again",
            hint="Splunk's indexing may be slow or blocked; see its queues",
        )
