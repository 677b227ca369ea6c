"""Reads one window to its end, page by page.

The other side's clock, carried on by our monotonic one: wall-clock jumps do not matter.

Rows that came to have more keys, and the identities they were stored under before.

When Cloudflare adds a field to all rows, a row that is read again looks new. It is recognised
by its identity under the key set that rows had before.

Reads one window to its end: page by page, each stored with the position behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from forwarder.core.contracts import LIVE, Lost, Page
from forwarder.core.errors import NeedsOperatorError
from forwarder.core.log import Addition, Appended, KeySet, ReaderState
from forwarder.core.source_contract import Parts, Purpose, Records
from forwarder.ingest.events import PageStored, RoundEnded
from forwarder.ingest.retrying import OwnRows, Retrier, StreamContext
from forwarder.ingest.windows import SECOND_US, beyond_retention

_PLAUSIBLE_US = 60_000_000


class ServerClock:
    """Knows what time it is at the API, from the ``Date`` of its answers.

    One answer that is far from what the ones before it said is not believed until the next one
    says the same: a single machine with a wrong clock must not move positions.
    """

    def __init__(self) -> None:
        """Know nothing until the first answer."""
        self._server_us: int | None = None
        self._at = 0.0
        self._doubted: tuple[int, float] | None = None

    @property
    def known(self) -> bool:
        """Return whether an answer has told the time yet."""
        return self._server_us is not None

    def tell(self, server_us: int | None, monotonic: float) -> None:
        """Take the time of an answer that arrived at ``monotonic`` seconds, if it had one."""
        if server_us is None:
            return
        expected = None if self._server_us is None else (self._server_us, self._at)
        agreeing = [one for one in (expected, self._doubted) if one is not None]
        if expected is None or any(_agree(one, server_us, monotonic) for one in agreeing):
            self._server_us, self._at, self._doubted = server_us, monotonic, None
        else:
            self._doubted = (server_us, monotonic)

    def now_us(self, monotonic: float) -> int:
        """Return the server's time in microseconds, cut to its whole second.

        Raises ``LookupError`` before the first answer.
        """
        if self._server_us is None:
            raise LookupError("no answer has told the time yet")
        return _carried_on((self._server_us, self._at), monotonic) // 1_000_000 * 1_000_000


def _carried_on(told: tuple[int, float], monotonic: float) -> int:
    return told[0] + int(max(0.0, monotonic - told[1]) * 1_000_000)


def _agree(told: tuple[int, float], server_us: int, monotonic: float) -> bool:
    return abs(_carried_on(told, monotonic) - server_us) <= _PLAUSIBLE_US


def unknown_keys(page: Page, known: Sequence[KeySet]) -> list[frozenset[str]]:
    """Return the key sets of the page's rows that are not remembered yet."""
    remembered = {key_set.keys for key_set in known}
    return sorted(set(Records.of(page.records).keys) - remembered, key=sorted)


def aliases(page: Page, known: Sequence[KeySet]) -> dict[int, list[bytes]]:
    """Return, by record index, identities that the row may have been stored under.

    Only rows can be meant that are no newer than the stream was when their own key set first
    appeared, and only under key sets that are smaller and appeared earlier. In steady state that
    is no row at all.
    """
    earlier = {keys: _earlier(keys, known) for keys in set(Records.of(page.records).keys)}
    if not any(earlier.values()):
        return {}
    horizon = {key_set.keys: key_set.horizon_us for key_set in known}
    found: dict[int, list[bytes]] = {}
    for index, record in enumerate(page.records):
        smaller = earlier[record.keys]
        if smaller and _may_be_old(record.time_us, horizon.get(record.keys)):
            found[index] = [page.project(index, keys) for keys in smaller]
    return found


def _earlier(keys: frozenset[str], known: Sequence[KeySet]) -> list[frozenset[str]]:
    """Return the smaller key sets that were known before ``keys`` appeared."""
    own = next((key_set.offset for key_set in known if key_set.keys == keys), None)
    return [
        other.keys for other in known if other.keys < keys and (own is None or other.offset < own)
    ]


def _may_be_old(time_us: int | None, horizon_us: int | None) -> bool:
    return horizon_us is None or time_us is None or time_us <= horizon_us


PARTS = "parts"
"""Instead of a reader: what is in the way of knowing what to read. It ends no reader's trouble."""
_CREEP_S = 60.0
"""Rows at the very start of the history expire while it is being read; that is no outage."""


def _nothing(_: int) -> OwnRows:
    return ()


@dataclass(frozen=True, slots=True)
class Reading:
    """Who reads and why.

    Rows older than ``late_before_us`` that turn out to be new are late; None counts none.
    ``tell(rows)`` gives the forwarder's own events at the end of the window for the rows counted
    since it last gave any.
    """

    reader: str
    purpose: Purpose
    late_before_us: int | None = None
    parts: tuple[str, ...] = ()
    lane: str = LIVE
    again: bool = False
    lost: tuple[Lost, ...] = ()
    tell: Callable[[int], OwnRows] = _nothing


class Rounds(Retrier):
    """Carries pages from the source into the log, as often as it takes."""

    def __init__(self, around: StreamContext) -> None:
        """Know nothing of the stream yet; ``key_sets`` is filled when the log was loaded."""
        super().__init__(around)
        self.server_clock = ServerClock()
        self.key_sets: Sequence[KeySet] = ()
        self.last_success: float | None = None

    async def read(self, reading: Reading, state: ReaderState) -> ReaderState:
        """Read ``state.window`` to its end and return the reader's state behind it.

        Failures are reported and waited out, for ever. Only while a person must act it returns
        the state with its window, if it reads parts: to be called again with those of then. May
        be cancelled at any await and resumed with the state that the log has.
        """
        around, began, lost = self._around, self._around.clock.monotonic(), reading.lost
        clean = True
        while state.window is not None:
            around.beat()
            await around.gate.passage(
                backfill=reading.purpose is Purpose.BACKFILL, beat=around.beat
            )
            try:
                stored, unharmed = await self._carry(reading, state, lost, clean=clean)
            except NeedsOperatorError:
                return state
            if stored is not None:
                state, clean, lost = stored, unharmed, ()
        around.emit(
            RoundEnded(
                around.account,
                around.key.stream,
                reading.reader,
                state.covered_until_us,
                state.rows,
                around.clock.monotonic() - began,
            )
        )
        return state

    async def _carry(
        self, reading: Reading, state: ReaderState, lost: Sequence[Lost], *, clean: bool
    ) -> tuple[ReaderState | None, bool]:
        """Carry one page; return the state behind it and whether nothing was lost so far.

        Nothing keeps the page afterwards, so that the next one is read into the same memory.
        """
        known = self.key_sets
        page = await self._fetch(reading, state)
        losses = (*lost, *self._expired(reading, state), *page.lost)
        unharmed = clean and not losses
        stored = await self._store(reading, state, page, losses, known, clean=unharmed)
        return stored, unharmed

    def now_us(self) -> int:
        """Return the server's time; valid once ``learn_time`` has returned."""
        return self.server_clock.now_us(self._around.clock.monotonic())

    async def learn_time(self) -> None:
        """Ask the server for its time if no answer has told it yet."""
        if not self.server_clock.known:
            server_us = await self.until_done("start", self._around.source.server_time_us)
            self.server_clock.tell(server_us, self._around.clock.monotonic())

    async def ask_for_parts(self, memory: Any | None) -> Parts:
        """Return the parts to read now; ``memory`` is what they said last."""
        source = self._around.source
        return await self.until_done(PARTS, lambda: source.parts(memory, self.now_us()))

    async def _fetch(self, reading: Reading, state: ReaderState) -> Page:
        source, window = self._around.source, state.window
        assert window is not None  # noqa: S101 - read() loops while there is one
        page = await self.until_done(
            reading.reader,
            lambda: source.fetch(
                window, state.position, parts=reading.parts, purpose=reading.purpose
            ),
            anew=bool(reading.parts),
        )
        self.server_clock.tell(page.server_time_us, self._around.clock.monotonic())
        return page

    def _expired(self, reading: Reading, state: ReaderState) -> Sequence[Lost]:
        """Return what expired unread inside this window, because an outage came between."""
        if reading.purpose not in (Purpose.LIVE, Purpose.RESCUE) or state.reached_us is None:
            return ()
        lost = beyond_retention(state.reached_us, self.now_us(), self._around.retention)
        too_long = lost is not None and lost.until_us - lost.since_us > _CREEP_S * SECOND_US
        return (lost,) if lost is not None and too_long else ()

    async def _store(
        self,
        reading: Reading,
        state: ReaderState,
        page: Page,
        lost: Sequence[Lost],
        known: Sequence[KeySet],
        *,
        clean: bool,
    ) -> ReaderState | None:
        """Return the state behind the page, None for one that must be asked for again."""
        around, answered = self._around, self._around.clock.monotonic()
        ended = page.position is None
        addition = Addition(
            reader=reading.reader,
            state=self._ended(reading, state) if ended else _further(state, page),
            seen_us=around.clock.now_us(),
            records=page.records,
            aliases=aliases(page, self.key_sets),
            known=known,
            new_keys=unknown_keys(page, self.key_sets),
            lost=lost,
            tell=reading.tell if ended else _nothing,
            lane=reading.lane,
            again=reading.again,
            settled=ended and clean and reading.reader == LIVE,
        )
        appended = await self.until_done(reading.reader, lambda: around.log.append(addition))
        self.key_sets = appended.key_sets
        if appended.overtaken:
            return None
        self.last_success = around.clock.monotonic()
        self._report_page(reading, page, appended, answered)
        return replace(addition.state, rows=appended.rows)

    def _ended(self, reading: Reading, state: ReaderState) -> ReaderState:
        """Return the state behind the window; the live reader never gets ahead of the server."""
        until_us = state.window.until_us if state.window else state.covered_until_us
        if reading.reader == LIVE:
            until_us = min(until_us, self.now_us())
        return ReaderState(max(state.covered_until_us, until_us), rows=state.rows)

    def _report_page(
        self, reading: Reading, page: Page, appended: Appended, answered: float
    ) -> None:
        around, now_us, limit = self._around, self.now_us(), reading.late_before_us
        times_us = Records.of(page.records).times_us
        times = [times_us[index] for index in appended.new]
        late = [(now_us - t) / SECOND_US for t in times if limit and t is not None and t < limit]
        around.emit(
            PageStored(
                around.account,
                around.key.stream,
                reading.reader,
                len(page.records),
                len(appended.new),
                appended.reshaped,
                page.malformed,
                times.count(None),
                tuple(late),
                around.clock.monotonic() - answered,
            )
        )


def _further(state: ReaderState, page: Page) -> ReaderState:
    reached_us = max(state.read_until_us, page.reached_us or state.read_until_us)
    return replace(state, position=page.position, reached_us=reached_us)
