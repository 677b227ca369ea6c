"""Operators' commands while no daemon runs: take the lock, do the work, give it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from forwarder.config import ForwarderSettings
from forwarder.core.timing import SystemClock
from forwarder.journal import Journal
from forwarder.journal.lanes import OPEN, list_lanes
from forwarder.runtime.parts import Parts, keeping
from forwarder.runtime.process import libraries_logged, run_fast, telemetry_of

_LOOK = 0.3
_GRACE = 20.0
OnProgress = Callable[[Mapping[str, Any]], None]


def carry_out(settings: ForwarderSettings, name: str, given: Mapping[str, Any]) -> Any:
    """Carry out one operation (see ``Operations.table``) and return its answer.

    Raises ``LockedError`` when a daemon starts meanwhile, and what the operation raises.
    """

    async def work() -> Mapping[str, Any]:
        async with _parts(settings) as parts:
            await parts.sinks.join(settings.sinks)
            return await parts.operations.table()[name](given)

    return run_fast(work())


def backfill(
    settings: ForwarderSettings, given: Mapping[str, Any], progress: OnProgress
) -> Mapping[str, Any]:
    """Read a backfill and deliver it to the sinks; returns when every sink has it.

    ``progress`` gets the status now and then. Interrupted, it goes on when a daemon starts.
    """

    async def work() -> Mapping[str, Any]:
        async with _parts(settings) as parts:
            await parts.sinks.join(settings.sinks)
            await parts.streams.start(settings.accounts, poll=False)
            parts.sinks.start(sink.name for sink in settings.sinks)
            answer = await parts.backfills.begin(given)
            while await _open(parts, answer["lane"]):
                progress(await parts.overview.status())
                await asyncio.sleep(_LOOK)
            progress(await parts.overview.status())
            await parts.streams.stop()
            await parts.sinks.drain(None, _GRACE)
            return answer

    return run_fast(work())


async def _open(parts: Parts, lane: str) -> bool:
    lanes = await parts.journal.ask(list_lanes)
    return any(one.name == lane and one.state == OPEN for one in lanes)


@asynccontextmanager
async def _parts(settings: ForwarderSettings) -> AsyncIterator[Parts]:
    """Open the journal and wire everything up around it; nothing runs yet."""
    telemetry, clock = telemetry_of(settings), SystemClock()
    emit = telemetry.observer.emit
    with libraries_logged(telemetry.observer):
        journal = await Journal.open(
            settings.root.state_dir, keeping(settings), clock=clock, emit=emit
        )
        parts = Parts.around(journal, settings, telemetry, clock, emit)
        try:
            yield parts
        finally:
            await parts.supervisor.stop_all()
            await parts.streams.stop()
            await journal.aclose()
