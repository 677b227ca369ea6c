"""Plugins with the two mistakes that lose rows in a crash; the judges must find both.

They come in through entry points, as any plugin does, when ``plants`` is on the path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from forwarder.core.model import ACCEPTED, Batch, Page, Window, WriteResult
from forwarder.core.source_contract import Parts, Purpose, Source, StreamPlan
from forwarder.sinks.splunk_hec import SplunkHecSink
from forwarder.sources.cloudflare_access import CloudflareAccess


class HastyHec(SplunkHecSink):
    """Says that a batch has arrived, and sends it half a second later."""

    summary = "acknowledges before it writes"

    async def write(self, batch: Batch) -> WriteResult:
        self._sending = asyncio.create_task(self._later(replace(batch)))
        return ACCEPTED

    async def _later(self, batch: Batch) -> None:
        await asyncio.sleep(0.5)
        await super().write(batch)


class HastyAccess(CloudflareAccess):
    """Gives the position behind a page one call before its rows."""

    summary = "moves on before the rows are stored"

    def streams(self) -> dict[str, StreamPlan]:
        plans = super().streams()
        return {
            name: StreamPlan(_Hasty(plan.source), plan.settings) for name, plan in plans.items()
        }


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
