"""Backfills under way: one lane an order, one task a stream, resumed after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forwarder.core.contracts import StreamKey, Window
from forwarder.core.errors import StateError
from forwarder.core.timing import Clock, format_us
from forwarder.ingest.backfill import Backfiller, BackfillOrder
from forwarder.journal import Journal
from forwarder.journal.lanes import OPEN, cancel_lane, close_lane, list_lanes
from forwarder.runtime.supervisor import Beat, Supervisor
from forwarder.runtime.workers import Streams

_KIND = "backfill:"
_SILENT_FOR = 900.0


@dataclass(slots=True)
class _Running:
    order: BackfillOrder
    backfillers: dict[StreamKey, Backfiller] = field(default_factory=dict)


class Backfills:
    """Starts, resumes, cancels and shows backfills."""

    def __init__(
        self, journal: Journal, streams: Streams, supervisor: Supervisor, clock: Clock
    ) -> None:
        """Run nothing yet."""
        self._journal = journal
        self._streams = streams
        self._supervisor = supervisor
        self._clock = clock
        self._running: dict[str, _Running] = {}

    async def resume(self) -> None:
        """Go on with what an earlier process did not finish; called once, at the start."""
        for lane in await self._journal.ask(list_lanes):
            if lane.name.startswith(_KIND) and lane.state == OPEN and lane.end_offset is None:
                self._start(lane.name, lane.spec)

    async def begin(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Open a lane and start reading; answers ``lane`` and the streams that are read.

        ``since_us``, ``until_us`` bound the rows' times; ``again`` delivers what was seen too;
        ``sinks``, ``accounts`` (ids or labels) and ``streams`` choose, all when empty.
        """
        lane = f"{_KIND}{self._clock.now_us():x}"
        if not self._keys(given):
            raise StateError("no running stream matches; `forwarder status` lists them")
        await self._journal.open_backfill(lane, dict(given), list(given.get("sinks") or ()))
        self._start(lane, given)
        labels = self._streams.labels
        keys = self._running[lane].backfillers
        streams = [f"{labels.get(key.account_id, key.account_id)}/{key.stream}" for key in keys]
        return {"lane": lane, "streams": streams}

    async def cancel(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stop a lane's reading and its delivery; what was delivered stays."""
        lane = str(given["lane"])
        running = self._running.pop(lane, None)
        if running is not None:
            await self._supervisor.stop(lane)
        if not await self._journal.tell(lambda connection: cancel_lane(connection, lane)):
            raise StateError(f"no open lane is called {lane}; `forwarder status` lists them")
        return {"lane": lane}

    def states(self) -> Sequence[Mapping[str, Any]]:
        """Return how far every backfill is, as JSON values."""
        labels = self._streams.labels
        return [
            {
                "lane": lane,
                "account": labels.get(key.account_id, key.account_id),
                "stream": key.stream,
                "since": format_us(running.order.window.since_us),
                "until": format_us(running.order.window.until_us),
                "done_until": format_us(backfiller.covered_us),
                "rows": backfiller.rows,
            }
            for lane, running in self._running.items()
            for key, backfiller in running.backfillers.items()
        ]

    def _keys(self, given: Mapping[str, Any]) -> list[StreamKey]:
        return self._streams.matching(
            accounts=tuple(given.get("accounts") or ()), streams=tuple(given.get("streams") or ())
        )

    def _start(self, lane: str, spec: Mapping[str, Any]) -> None:
        window = Window(int(spec["since_us"]), int(spec["until_us"]))
        order = BackfillOrder(lane, window, again=bool(spec.get("again")))
        running = self._running[lane] = _Running(order)
        for key in self._keys(spec):
            around = self._streams.around(key, lambda: None)
            running.backfillers[key] = Backfiller(around, order)
        self._supervisor.start(
            lane, lambda beat: self._work(lane, running, spec, beat), silent_for=_SILENT_FOR
        )

    async def _work(
        self, lane: str, running: _Running, spec: Mapping[str, Any], beat: Beat
    ) -> None:
        """Read all streams to the window's end, then close the lane."""
        for key in self._keys(spec):
            around = self._streams.around(key, beat)
            running.backfillers[key] = Backfiller(around, running.order)
        async with asyncio.TaskGroup() as tasks:
            for backfiller in running.backfillers.values():
                tasks.create_task(backfiller.run())
        await self._journal.tell(lambda connection: close_lane(connection, lane))
        self._running.pop(lane, None)
