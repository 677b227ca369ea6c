"""Re-reads a window from the API and asks what became of every row that it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from forwarder.core.log import KeySet
from forwarder.core.model import Page, Record, Window
from forwarder.core.source_contract import Purpose, Source
from forwarder.ingest.shapes import aliases

Verdicts = TypeVar("Verdicts")
Judge = Callable[[Sequence[Record], Mapping[int, Sequence[bytes]]], Awaitable[Verdicts]]


async def pages_of(source: Source, window: Window, parts: Sequence[str]) -> AsyncIterator[Page]:
    """Read a window to its end without storing anything; raises as ``Source.fetch`` does."""
    position: Any | None = None
    while True:
        page = await source.fetch(window, position, parts=parts, purpose=Purpose.BACKFILL)
        yield page
        position = page.position
        if position is None:
            return


async def verify(
    source: Source,
    window: Window,
    parts: Sequence[str],
    key_sets: Sequence[KeySet],
    judge: Judge[Verdicts],
) -> AsyncIterator[Verdicts]:
    """Give one verdict a page over rows within the window; a row that is read twice counts once.

    ``judge`` looks rows up in the journal. The walk reads some seconds twice; identities that
    were judged already are left out, and so are rows outside the window.
    """
    judged: set[bytes] = set()
    async for page in pages_of(source, window, parts):
        known = aliases(page, key_sets)
        fresh = [
            index
            for index, record in enumerate(page.records)
            if record.identity not in judged and _inside(record, window)
        ]
        judged = judged | {page.records[index].identity for index in fresh}
        yield await judge(
            [page.records[index] for index in fresh],
            {place: known[index] for place, index in enumerate(fresh) if index in known},
        )


def _inside(record: Record, window: Window) -> bool:
    return record.time_us is None or window.since_us <= record.time_us <= window.until_us
