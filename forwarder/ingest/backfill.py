"""Reads a range of the past once: to store it in a lane of its own, or to verify what was stored.

Neither ever moves the position of the live reader.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from forwarder.core.contracts import LIVE, Page, Record, Window
from forwarder.core.log import Addition, KeySet, ReaderState
from forwarder.core.source_contract import Purpose, Source, StreamPlan
from forwarder.ingest.events import BackfillEnded, BackfillMoved
from forwarder.ingest.rounds import Reading, Retrier, Rounds, StreamContext, aliases
from forwarder.ingest.windows import Group

_SLICE_US = 3_600_000_000
_POLL_SECONDS = 30
"""How long a poll itself may take."""


@dataclass(frozen=True, slots=True)
class BackfillOrder:
    """What to read: ``lane`` (``backfill:ID``) names the reader too.

    ``again`` stores and delivers rows although they were seen before.
    """

    lane: str
    window: Window
    again: bool = False


def next_slice(order: BackfillOrder, covered_us: int, length_us: int = _SLICE_US) -> Window | None:
    """Return the next slice or what is left of the window, None at its end."""
    if covered_us >= order.window.until_us:
        return None
    return Window(covered_us, min(order.window.until_us, covered_us + length_us))


def bounded(window: Window, live_us: int) -> Window:
    """Return the window, cut where the live reader has not been: it will read that itself."""
    return Window(window.since_us, max(window.since_us, min(window.until_us, live_us)))


class Backfiller:
    """Reads one stream for one order; ``run`` it as a task, cancel it at any time."""

    def __init__(self, context: StreamContext, order: BackfillOrder) -> None:
        """Do no I/O; everything starts in ``run``."""
        self._context = context
        self._order = order
        self._retrier = Retrier(context)
        self._rounds = Rounds(context, self._retrier)
        self._rows = 0
        self._covered_us = order.window.since_us

    @property
    def rows(self) -> int:
        """Return how many rows were stored so far."""
        return self._rows

    @property
    def covered_us(self) -> int:
        """Return how far the order's window has been read."""
        return self._covered_us

    async def run(self) -> None:
        """Read slice by slice from where an earlier run stopped; return at the end.

        The reader's state stays in the log, at the window's end, until the lane is closed.
        """
        order, log = self._order, self._context.log
        readers = await self._rounds.load(order.lane)
        kept = await self._retrier.until_done(order.lane, lambda: log.recall("group"))
        parts = (Group.from_json(kept) or Group()).ids
        live = readers.get(LIVE)
        live_us = live.covered_until_us if live else self._rounds.now_us()
        order = replace(order, window=bounded(order.window, live_us))
        state = readers.get(order.lane) or await self._begin(order)
        # The group is empty: no provider is there to be read, now or then.
        if parts == ():
            state = ReaderState(order.window.until_us)
        reading = Reading(
            order.lane, Purpose.BACKFILL, parts=parts or (), lane=order.lane, again=order.again
        )
        await self._read(reading, order, state)

    async def _begin(self, order: BackfillOrder) -> ReaderState:
        state, log = ReaderState(order.window.since_us), self._context.log
        addition = Addition(order.lane, state, self._context.clock.now_us(), lane=order.lane)
        await self._retrier.until_done(order.lane, lambda: log.append(addition))
        return state

    async def _read(self, reading: Reading, order: BackfillOrder, state: ReaderState) -> None:
        length_us, rows = _SLICE_US, state.rows
        while window := state.window or next_slice(order, state.covered_until_us, length_us):
            self._move(order, state)
            state = await self._rounds.read(reading, replace(state, window=window))
            # Empty slices grow, so that a window of centuries has an end.
            length_us = _SLICE_US if state.rows > rows else 2 * length_us
            rows = state.rows
        self._move(order, state)

    def _move(self, order: BackfillOrder, state: ReaderState) -> None:
        self._rows, self._covered_us = state.rows, state.covered_until_us
        ended = state.covered_until_us >= order.window.until_us
        moved = BackfillEnded if ended else BackfillMoved
        self._context.emit(
            moved(
                self._context.account,
                self._context.key.stream,
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
    while window.since_us <= window.until_us:
        page = await source.fetch(window, position, parts=parts, purpose=Purpose.BACKFILL)
        yield page
        position = page.position
        if position is None:
            return


def unread_after(plan: StreamPlan, covered_us: int | None, now_us: int) -> int | None:
    """Return the time after which a row that is not stored may still be read by the next poll.

    ``covered_us`` is how far the live reader has read, None if it has read nothing; ``now_us`` is
    the server's time. None if the next poll is overdue: nobody knows that it will come.
    """
    patience = plan.hold_back + 2 * plan.settings.poll_interval + _POLL_SECONDS
    overdue = covered_us is None or now_us - covered_us > patience * 1_000_000
    return None if overdue else covered_us


async def verify(
    source: Source,
    window: Window,
    parts: Sequence[str],
    key_sets: Sequence[KeySet],
    judge: Judge[Verdicts],
) -> AsyncIterator[Verdicts]:
    """Give one verdict a page over the rows within the window; each row counts once.

    ``judge`` looks rows up in the journal.
    """
    # The walk reads some seconds twice, and rows around the window come along.
    judged: set[bytes] = set()
    async for page in pages_of(source, window, parts):
        known = aliases(page, key_sets)
        fresh = [
            index
            for index, record in enumerate(page.records)
            if record.identity not in judged and _inside(record, window)
        ]
        judged.update(page.records[index].identity for index in fresh)
        yield await judge(
            [page.records[index] for index in fresh],
            {place: known[index] for place, index in enumerate(fresh) if index in known},
        )


def _inside(record: Record, window: Window) -> bool:
    return record.time_us is None or window.since_us <= record.time_us <= window.until_us
