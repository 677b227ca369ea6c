"""Mistakes that lose rows; the judges must find each.

The plugins come in through entry points, as any plugin does, when ``plants`` is on the path.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from forwarder.core.contracts import ACCEPTED, Batch, Page, SinkContext, Window, WriteResult
from forwarder.core.errors import TransientError
from forwarder.core.journal import Keeping
from forwarder.core.source_contract import Parts, Purpose, Source, StreamPlan
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal import fleet
from forwarder.journal.fleet import ShardLease
from forwarder.journal.postgres import PostgresJournal
from forwarder.journal.writer import Writer, _Job  # the plant's point of attack
from forwarder.runtime.cell import Cell
from forwarder.sinks.null import NullConfig, NullSink
from forwarder.sinks.splunk_hec import SplunkHecSink
from forwarder.sources.cloudflare_access import CloudflareAccess

_BUSY = 0.05
"""Seconds."""


def with_plants() -> dict[str, str]:
    """Return the environment of a process that finds the plugins of this module."""
    plants = str(Path(__file__).with_name("plants"))
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{plants}{os.pathsep}{before}" if before else plants}


class HastyHec(SplunkHecSink):
    """Says that a batch has arrived, and sends it half a second later."""

    summary = "acknowledges before it writes"

    async def write(self, batch: Batch) -> WriteResult:
        self._sending = asyncio.create_task(self._later(replace(batch)))
        return ACCEPTED

    async def _later(self, batch: Batch) -> None:
        await asyncio.sleep(0.5)
        await super().write(batch)


class BusySink(NullSink):
    """Keeps the event loop for itself, for a while at each batch."""

    summary = "blocks the loop"

    async def write(self, batch: Batch) -> WriteResult:
        until = time.monotonic() + _BUSY
        while time.monotonic() < until:
            pass
        return await super().write(batch)


class HoardingSink(NullSink):
    """Keeps whatever it was given."""

    summary = "keeps every event"

    def __init__(self, config: NullConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._hoard: list[bytes] = []

    async def write(self, batch: Batch) -> WriteResult:
        self._hoard += [event.body * 2 for event in batch.events]
        return await super().write(batch)


class HastyAccess(CloudflareAccess):
    """Gives the position behind a page one call before its rows."""

    summary = "moves on before the rows are stored"

    def streams(self) -> dict[str, StreamPlan]:
        return _around(_Hasty, super().streams())


class _Hasty:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._held: list[Any] = []

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        page = await self._source.fetch(window, position, parts=parts, purpose=purpose)
        held, self._held = self._held, list(page.records)
        if page.position is None:
            held, self._held = held + self._held, []
        return replace(page, records=held)

    async def parts(self, memory: Any | None, now_us: int) -> Parts:
        return await self._source.parts(memory, now_us)

    async def server_time_us(self) -> int:
        return await self._source.server_time_us()


def _around(
    wrapper: Callable[[Source], Source], plans: Mapping[str, StreamPlan]
) -> dict[str, StreamPlan]:
    return {name: StreamPlan(wrapper(plan.source), plan.settings) for name, plan in plans.items()}


class LocalClockAccess(CloudflareAccess):
    """Reads up to what this machine takes for the present."""

    summary = "follows the machine's clock"

    def streams(self) -> dict[str, StreamPlan]:
        return _around(_Local, super().streams())


class _Local(_Hasty):
    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        page = await self._source.fetch(window, position, parts=parts, purpose=purpose)
        return replace(page, server_time_us=time.time_ns() // 1000)

    async def server_time_us(self) -> int:
        return time.time_ns() // 1000


class SwallowingWriter(Writer):
    """Takes a full disk for success."""

    def _commit(self, jobs: Sequence[_Job]) -> None:
        super()._commit(jobs)
        for job in jobs:
            if isinstance(job.error, TransientError):
                vars(_Job)["_error"].__set__(job, None)  # a plant reaches in


class HastyLease(ShardLease):
    """Is given back before the drain."""

    held: ClassVar[list[ShardLease]] = []

    async def open(self, keeping: Keeping, *, clock: Clock, emit: Emit) -> PostgresJournal:
        HastyLease.held.append(self)
        return await super().open(keeping, clock=clock, emit=emit)


def release_before_the_drain() -> None:
    """Let every cell of this process give its shard back first, and wind down then."""
    wind_down = Cell.wind_down

    async def hasty(cell: Cell, grace: float) -> int:
        for lease in HastyLease.held:
            await lease.release()
        return await wind_down(cell, grace)

    vars(fleet)["ShardLease"] = HastyLease
    setattr(Cell, "wind_down", hasty)  # noqa: B010 - a plant
