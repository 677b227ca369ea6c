"""Backfills of one journal: a lane each, read beside the live stream, resumed after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forwarder.core.contracts import StreamKey, Window
from forwarder.core.errors import AbsentError, BadRequestError, StateError
from forwarder.core.journal import OPEN, Journal, check_moment
from forwarder.core.timing import format_us
from forwarder.ingest.backfill import Backfiller, BackfillOrder
from forwarder.runtime.replica import Replica
from forwarder.runtime.supervisor import Beat, Supervisor
from forwarder.runtime.workers import Sinks, Streams

_KIND = "backfill:"


_SILENT_FOR = 900.0
_LEAVING = 10.0
"""Seconds for sinks to settle what they are writing of a lane that is cancelled."""


class _Backfill:
    """One backfill under way: its order, and a reader for each of its streams."""

    def __init__(self, order: BackfillOrder) -> None:
        self.order = order
        self._readers: dict[StreamKey, Backfiller] = {}

    @property
    def readers(self) -> Mapping[StreamKey, Backfiller]:
        return self._readers

    @property
    def rows(self) -> int:
        """How many rows were stored, also by an earlier process that began this backfill."""
        return sum(reader.rows for reader in self._readers.values())

    def prepare(self, streams: Streams, keys: Iterable[StreamKey], beat: Beat) -> None:
        """Make new readers; each continues where the journal says."""
        self._readers = {key: Backfiller(streams.context(key, beat), self.order) for key in keys}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for reader in self._readers.values():
                tasks.create_task(reader.run())


class Backfills:
    """Starts, resumes, cancels and shows backfills: a lane each, resumed after a restart."""

    def __init__(
        self,
        replica: Replica,
        journal: Journal,
        streams: Streams,
        sinks: Sinks,
        supervisor: Supervisor,
    ) -> None:
        """Run nothing yet."""
        self._sinks = sinks
        self._replica = replica
        self._journal = journal
        self._streams = streams
        self._supervisor = supervisor
        self._running: dict[str, _Backfill] = {}
        self._stored: dict[str, int] = {}

    async def resume(self, only: str = "") -> None:
        """Continue what an earlier process did not finish, or the lane ``only`` of it."""
        for lane in await self._journal.lanes():
            unread = lane.state == OPEN and lane.end_offset is None
            wanted = lane.name == only if only else lane.name.startswith(_KIND)
            if unread and wanted and lane.name not in self._running:
                self._start(lane.name, lane.spec)

    async def begin(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Open a lane and start reading; answers ``lane`` and the ``streams`` that are read.

        ``since_us``, ``until_us`` bound the rows' times; ``again`` delivers rows that are known
        as well; ``sinks``, ``accounts`` (ids or labels) and ``streams`` choose, all when empty. A
        ``lane`` that is there already is only read to its end.
        """
        if check_moment(given["since_us"]) >= check_moment(given["until_us"]):
            raise BadRequestError("the window ends before it begins")
        keys = self._keys(given)
        if not keys:
            raise AbsentError("no running stream matches; `forwarder status` lists them")
        lane = str(given.get("lane") or f"{_KIND}{self._replica.clock.now_us():x}")
        if not lane.startswith(_KIND):
            raise BadRequestError(f"{lane} is no lane of a backfill; its name begins with {_KIND}")
        if await self.is_known(lane):
            self._stored.setdefault(lane, 0)
            await self.resume(lane)
        else:
            await self._journal.open_backfill(lane, dict(given), list(given.get("sinks") or ()))
            self._start(lane, given)
        return {"lane": lane, "streams": [self._replica.scope_name(str(key)) for key in keys]}

    async def cancel(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stop the reading and the delivery of ``lane``; what was delivered stays.

        Works for a lane of a replay, which nobody reads, and while no backfill runs here, too.
        Answers how many rows will be ``found_again``, how many events are ``lost`` and how many
        dead letters were ``returned``.
        """
        lane = str(given["lane"])
        if self._running.pop(lane, None) is not None:
            await self._supervisor.stop(lane)
        await self._journal.stop_lane(lane)
        await self._sinks.settled(lane, _LEAVING)
        ended = await self._journal.cancel_lane(lane)
        return {
            "lane": lane,
            "found_again": ended.found_again,
            "lost": ended.lost,
            "returned": ended.returned,
        }

    async def rows(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer ``lane`` and the ``rows`` that its backfill has stored, also after its end."""
        lane = str(given["lane"])
        running = self._running.get(lane)
        if running is None and lane not in self._stored:
            raise StateError(f"no backfill called {lane} has run here")
        return {"lane": lane, "rows": running.rows if running else self._stored[lane]}

    async def is_known(self, lane: str) -> bool:
        """Return True if the journal has a lane of that name, over or not."""
        return any(one.name == lane for one in await self._journal.lanes())

    async def is_open(self, lane: str) -> bool:
        """Return True until every sink has the lane to its end."""
        lanes = await self._journal.lanes()
        return any(one.name == lane and one.state == OPEN for one in lanes)

    def states(self) -> Sequence[Mapping[str, Any]]:
        """Return the progress of every backfill as JSON values."""
        labels = self._replica.rendering.labels
        return [
            {
                "lane": lane,
                "account": labels.get(key.account_id, key.account_id),
                "stream": key.stream,
                "since": format_us(running.order.window.since_us),
                "until": format_us(running.order.window.until_us),
                "done_until": format_us(reader.covered_us),
                "rows": reader.rows,
            }
            for lane, running in self._running.items()
            for key, reader in running.readers.items()
        ]

    def _keys(self, given: Mapping[str, Any]) -> list[StreamKey]:
        return self._streams.matching(
            accounts=tuple(given.get("accounts") or ()), streams=tuple(given.get("streams") or ())
        )

    def _start(self, lane: str, spec: Mapping[str, Any]) -> None:
        window = Window(int(spec["since_us"]), int(spec["until_us"]))
        running = _Backfill(BackfillOrder(lane, window, again=bool(spec.get("again"))))
        # Readers from now on, not from the task's first step on: status shows them at once.
        running.prepare(self._streams, self._keys(spec), lambda: None)
        self._running[lane] = running
        self._supervisor.start(
            lane, lambda beat: self._work(lane, running, spec, beat), silent_for=_SILENT_FOR
        )

    async def _work(
        self, lane: str, running: _Backfill, spec: Mapping[str, Any], beat: Beat
    ) -> None:
        """Read all streams to the window's end, then close the lane."""
        # Chosen again after a crash: a reload may have removed streams meanwhile.
        running.prepare(self._streams, self._keys(spec), beat)
        await running.run()
        self._stored[lane] = running.rows
        await self._journal.close_lane(lane)
        self._running.pop(lane, None)
