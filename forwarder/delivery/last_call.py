"""Before a sink stops: what is stored already goes out, without waiting for more to join it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

from forwarder.delivery.acknowledger import Acknowledger
from forwarder.delivery.condition import Condition
from forwarder.delivery.courier import Courier
from forwarder.delivery.lanes import Lanes


class LastCall:
    """Knows when nothing is left to do, or nothing more can be done soon."""

    def __init__(
        self,
        courier: Courier,
        acks: Acknowledger,
        lanes: Lanes,
        conditions: Sequence[Condition],
    ) -> None:
        """Nobody has called yet."""
        self._courier = courier
        self._acks = acks
        self._lanes = lanes
        self._conditions = conditions
        self._over = asyncio.Event()
        self.until = inf

    def begin(self, deadline: float) -> None:
        """Look for rows once more, until ``deadline`` (monotonic seconds) at the latest."""
        self.until = min(self.until, deadline)
        self._lanes.hurry()

    def look(self, now: float, *, paused: bool) -> None:
        """Say that it is over if it is; the consumer calls it whenever it has looked around."""
        if self.until == inf:
            return
        troubled = any(one.trouble is not None for one in self._conditions)
        busy = self._courier.flights or not self._acks.idle or not self._lanes.dry
        if paused or troubled or now >= self.until or not busy:
            self._over.set()

    async def over(self) -> None:
        """Return when it is over."""
        await self._over.wait()

    def end(self) -> None:
        """Let nobody wait: the consumer leaves."""
        self._over.set()
