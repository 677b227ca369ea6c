"""Reads a range of the past once: to store it, or to verify what was stored.

Reads an old window of one stream in a lane of its own; never moves the live position.

Re-reads a window from the API and asks what became of every row that it shows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from forwarder.core.contracts import LIVE, Page, Record, Window
from forwarder.core.log import Addition, KeySet, ReaderState
from forwarder.core.source_contract import Purpose, Source
from forwarder.ingest.events import BackfillEnded, BackfillMoved
from forwarder.ingest.retrying import StreamContext
from forwarder.ingest.rounds import Reading, Rounds, aliases
from forwarder.ingest.windows import Group

_SLICE_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class BackfillOrder:
    """What to read: ``lane`` (``backfill:ID``) names the reader too.

    ``again`` stores and delivers rows although they were seen before.
    """

    lane: str
    window: Window
    again: bool = False


def next_slice(order: BackfillOrder, covered_us: int) -> Window | None:
    """Return the next hour or what is left of the window, None at its end."""
    if covered_us >= order.window.until_us:
        return None
    return Window(covered_us, min(order.window.until_us, covered_us + _SLICE_US))


def bounded(window: Window, live_us: int) -> Window:
    """Return the window cut where the live reader has not been: that is the live reader's."""
    return Window(window.since_us, max(window.since_us, min(window.until_us, live_us)))


class Backfiller:
    """Reads one stream for one order; ``run`` it as a task, cancel it at any time."""

    def __init__(self, around: StreamContext, order: BackfillOrder) -> None:
        """Do no I/O; everything starts in ``run``."""
        self._around = around
        self._order = order
        self._rounds = Rounds(around)
        self.rows = 0
        self.covered_us = order.window.since_us

    async def run(self) -> None:
        """Read slice by slice from where an earlier run stopped; return at the end.

        The reader's state stays in the log, at the window's end, until the lane is closed.
        """
        order, rounds, log = self._order, self._rounds, self._around.log
        memory = await rounds.until_done(order.lane, log.load)
        rounds.key_sets = memory.key_sets
        await rounds.learn_time()
        kept = await rounds.until_done(order.lane, lambda: log.recall("group"))
        parts = (Group.from_json(kept) or Group()).ids
        live = memory.readers.get(LIVE)
        live_us = live.covered_until_us if live else rounds.now_us()
        order = replace(order, window=bounded(order.window, live_us))
        state = memory.readers.get(order.lane) or await self._begin(order)
        if parts == ():
            state = ReaderState(order.window.until_us)
        reading = Reading(
            order.lane, Purpose.BACKFILL, parts=parts or (), lane=order.lane, again=order.again
        )
        await self._read(reading, order, state)

    async def _begin(self, order: BackfillOrder) -> ReaderState:
        state = ReaderState(order.window.since_us)
        addition = Addition(order.lane, state, self._around.clock.now_us(), lane=order.lane)
        await self._rounds.until_done(order.lane, lambda: self._around.log.append(addition))
        return state

    async def _read(self, reading: Reading, order: BackfillOrder, state: ReaderState) -> None:
        while (window := state.window or next_slice(order, state.covered_until_us)) is not None:
            self._tell(order, state)
            state = await self._rounds.read(reading, replace(state, window=window))
        self._tell(order, state)

    def _tell(self, order: BackfillOrder, state: ReaderState) -> None:
        self.rows, self.covered_us = state.rows, state.covered_until_us
        ended = state.covered_until_us >= order.window.until_us
        moved = BackfillEnded if ended else BackfillMoved
        self._around.emit(
            moved(
                self._around.account,
                self._around.key.stream,
                order.lane,
                state.covered_until_us,
                order.window.until_us,
                state.rows,
            )
        )


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
