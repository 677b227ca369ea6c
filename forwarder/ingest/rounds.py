"""Reads one window to its end: page by page, each stored with the position behind it.

``Gate`` holds reading back while the journal is full, ``Retrier`` repeats what fails for as long
as it takes, ``Rounds`` carries the pages.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeAlias, TypeVar

from forwarder.core.contracts import LIVE, Lost, Page, StreamKey
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.log import (
    MOST_KEY_SETS,
    Addition,
    Appended,
    KeySet,
    ReaderState,
    StreamLog,
)
from forwarder.core.source_contract import Parts, Purpose, Records, Source
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Backoff, Clock, ServerClock
from forwarder.ingest.events import (
    FetchFailed,
    FetchRecovered,
    GateClosed,
    GateOpened,
    PageStored,
    RoundEnded,
    StreamHeld,
)
from forwarder.ingest.windows import SECOND_US, beyond_retention

T = TypeVar("T")
OwnRows: TypeAlias = Sequence[Mapping[str, Any]]

START, PARTS, GATE = "start", "parts", "gate"
"""In place of a reader's name: what fails before there are readers, or beside them."""
_CLOSES, _OPENS, _PAUSES_BACKFILL = 0.95, 0.80, 0.50
_LOOK_S = 0.5
_ASK_AGAIN_S = 5.0
_CREEP_S = 60.0
"""Rows at the very start of the history expire while it is being read; that is not an outage."""


def is_closed(undelivered: int, limit: int, *, closed: bool) -> bool:
    """Return True if the gate is closed now: shuts near the limit, opens below 80 % of it."""
    # What is left above 95 % is for acknowledgements, gaps and dead letters.
    return undelivered >= limit * (_OPENS if closed else _CLOSES)


class Gate:
    """Backpressure: stands before every fetch, shared by all streams of the process."""

    def __init__(
        self, limit: int, measure: Callable[[], Awaitable[int]], clock: Clock, emit: Emit
    ) -> None:
        """Take ``journal.max_size`` in bytes and how to measure what is undelivered."""
        self._limit = limit
        self._measure = measure
        self._clock = clock
        self._emit = emit
        self._closed = False
        self._undelivered = 0
        self._measured = float("-inf")

    @property
    def closed(self) -> bool:
        """Return True while the journal is full."""
        return self._closed

    async def admits(self) -> bool:
        """Return True if there is room now; for what is pushed, and cannot be kept waiting."""
        await self._look()
        return not self._closed

    async def passage(self, *, backfill: bool = False, beat: Callable[[], None]) -> None:
        """Return once there is room; ``backfill`` waits already at half of the limit.

        ``beat`` is called while waiting, so that a closed gate does not look like a stuck loop.
        """
        await self._look()
        while self._closed or (backfill and self._undelivered >= self._limit * _PAUSES_BACKFILL):
            beat()
            await self._clock.sleep(_LOOK_S)
            await self._look()

    async def _look(self) -> None:
        """Measure: near the limit at every call, otherwise twice a second at most."""
        now = self._clock.monotonic()
        if now - self._measured < _LOOK_S and self._undelivered < self._limit * _PAUSES_BACKFILL:
            return
        # Near the limit a single page may fill what is left, so that an old figure is too old.
        self._undelivered, self._measured = await self._measure(), now
        closed = is_closed(self._undelivered, self._limit, closed=self._closed)
        if closed != self._closed:
            self._closed = closed
            moved = GateClosed if closed else GateOpened
            self._emit(moved(self._undelivered, self._limit))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a reader cannot continue at present; ``since`` is a time of ``Clock.monotonic``."""

    error: str
    hint: str
    held: bool
    since: float
    attempts: int


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What every reader of one stream works with; ``beat`` tells the supervisor that it lives."""

    key: StreamKey
    account: str
    source: Source
    log: StreamLog
    gate: Gate
    clock: Clock
    rng: Random
    emit: Emit
    beat: Callable[[], None]
    retention: float
    backoff: Backoff = field(default_factory=Backoff)


class Retrier:
    """Repeats what fails until it succeeds; the failures under way are shown in the status."""

    def __init__(self, context: StreamContext) -> None:
        """Start without a failure."""
        self._context = context
        self._failures: dict[str, Failure] = {}
        self._wake = asyncio.Event()

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Return the failures under way by reader."""
        return self._failures

    def wake(self) -> None:
        """Retry at once whatever waits: a secret changed, an operator asked."""
        # Every waiter holds the old event, so all of them wake and none sleeps on a set one.
        self._wake.set()
        self._wake = asyncio.Event()

    async def until_done(
        self, reader: str, attempt: Callable[[], Awaitable[T]], *, raise_held: bool = False
    ) -> T:
        """Call ``attempt`` until it succeeds; emits, waits out and remembers each failure.

        With ``raise_held`` it raises ``NeedsOperatorError`` after waiting: what a person fixes may
        change what has to be attempted.
        """
        while True:
            self._context.beat()
            try:
                result = await attempt()
            except TransientError as error:
                await self._wait_out(reader, error)
                if raise_held and isinstance(error, NeedsOperatorError):
                    raise
            else:
                self._recover(reader)
                return result

    async def pause(self, seconds: float) -> None:
        """Wait, or less when ``wake`` is called."""
        waits = [
            asyncio.ensure_future(self._context.clock.sleep(seconds)),
            asyncio.ensure_future(self._wake.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _wait_out(self, reader: str, error: TransientError) -> None:
        context, held = self._context, isinstance(error, NeedsOperatorError)
        known = self._failures.get(reader)
        attempts = known.attempts + 1 if known else 1
        since = known.since if known else context.clock.monotonic()
        self._failures[reader] = Failure(str(error), error.hint, held, since, attempts)
        wait = context.backoff.delay(
            attempts, context.rng, retry_after=error.retry_after, slow=held
        )
        failed, stream = StreamHeld if held else FetchFailed, context.key.stream
        context.emit(
            failed(context.account, stream, reader, str(error), error.hint, attempts, wait)
        )
        await self.pause(wait)

    def _recover(self, reader: str) -> None:
        failure = self._failures.pop(reader, None)
        if failure is not None:
            context = self._context
            seconds = context.clock.monotonic() - failure.since
            context.emit(
                FetchRecovered(
                    context.account, context.key.stream, reader, failure.attempts, seconds
                )
            )


class KeySets:
    """The key sets that rows of a stream have; the most recently met ones are remembered."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._known: Sequence[KeySet] = ()
        self._met: dict[frozenset[str], int] = {}
        self._pages = 0

    @property
    def known(self) -> Sequence[KeySet]:
        """Return what is remembered, in order of appearance."""
        return self._known

    def learn(self, known: Sequence[KeySet]) -> None:
        """Take what the log remembers now."""
        self._known = known
        self._met = {one.keys: self._met.get(one.keys, self._pages) for one in known}

    def changes(
        self, page: Page, *, forget: bool
    ) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
        """Return the key sets to remember with a page, and the ones to forget for them.

        At most ``MOST_KEY_SETS`` are remembered; with ``forget`` the least recently met go.
        """
        counts = Counter(Records.of(page.records).keys)
        self._pages += 1
        self._met.update((keys, self._pages) for keys in counts if keys in self._met)
        new = [keys for keys in counts if keys not in self._met]
        # Sets of a single row come last: rows with a key of their own must not push out the rest.
        new.sort(key=lambda keys: (-counts[keys], sorted(keys)))
        idle = sorted((keys for keys in self._met if keys not in counts), key=self._met.__getitem__)
        room = MOST_KEY_SETS - len(self._met)
        old = idle[: max(0, len(new) - room)] if forget else []
        return new[: max(0, room + len(old))], old


def aliases(page: Page, known: Sequence[KeySet]) -> dict[int, list[bytes]]:
    """Return, by record index, identities that the row may have been stored under.

    When Cloudflare adds a field to all rows, a row that is read again looks new. It is recognised
    by its identity under the key set that rows had before. In steady state no row needs this.
    """
    # Only smaller key sets that appeared earlier, and only for rows that are no newer than the
    # stream was when their own key set first appeared.
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


def _nothing(_: int) -> OwnRows:
    return ()


@dataclass(frozen=True, slots=True)
class Reading:
    """Who reads and why.

    Rows older than ``late_before_us`` that turn out to be new are late; None counts none. The
    reader's position stays ``hold_back_us`` behind the window's end.
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
    hold_back_us: int = 0


class Rounds:
    """Carries pages from the source into the log; shared by all readers of one stream."""

    def __init__(self, context: StreamContext, retrier: Retrier) -> None:
        """Know nothing of the stream yet; ``load`` comes first."""
        self._context = context
        self._retrier = retrier
        self._server_clock = ServerClock()
        self._key_sets = KeySets()
        self._last_success: float | None = None

    @property
    def clock_known(self) -> bool:
        """Return True once the server's time is known."""
        return self._server_clock.known

    @property
    def success_age(self) -> float | None:
        """Return the seconds since a page was stored, None before the first one."""
        last = self._last_success
        return None if last is None else self._context.clock.monotonic() - last

    def now_us(self) -> int:
        """Return the server's time; valid once ``load`` has returned."""
        return self._server_clock.now_us(self._context.clock.monotonic())

    async def load(self, reader: str) -> Mapping[str, ReaderState]:
        """Learn what is stored, and the server's time; failures are waited out for ``reader``."""
        memory = await self._retrier.until_done(reader, self._context.log.load)
        self._key_sets.learn(memory.key_sets)
        ask, clock = self._context.source.server_time_us, self._context.clock
        while not self._server_clock.known:
            server_us = await self._retrier.until_done(START, ask)
            self._server_clock.tell(server_us, clock.monotonic(), clock.now_us())
            if not self._server_clock.known:  # our own clock disagrees
                self._context.beat()
                await clock.sleep(_ASK_AGAIN_S)
        return memory.readers

    async def list_parts(self, memory: Any | None) -> Parts:
        """Return the parts to read now; ``memory`` is what the last list came with."""
        source = self._context.source
        return await self._retrier.until_done(PARTS, lambda: source.parts(memory, self.now_us()))

    async def read(self, reading: Reading, state: ReaderState) -> ReaderState:
        """Read ``state.window`` to its end and return the reader's state behind it.

        Failures are emitted and waited out, for ever. Only while a person must act it returns the
        state with its window, if it reads parts: to be called again with the parts of then. May
        be cancelled at any await and resumed with the state that the log has.
        """
        context, began, lost = self._context, self._context.clock.monotonic(), reading.lost
        clean, backfill = True, reading.purpose is Purpose.BACKFILL
        while state.window is not None:
            # The gate asks the journal, which may be away; its answer ends no failure of a reader.
            await self._retrier.until_done(
                GATE, lambda: context.gate.passage(backfill=backfill, beat=context.beat)
            )
            try:
                stored, unharmed = await self._carry(reading, state, lost, clean=clean)
            except NeedsOperatorError:
                return state
            if stored is not None:
                state, clean, lost = stored, unharmed, ()
        context.emit(
            RoundEnded(
                context.account,
                context.key.stream,
                reading.reader,
                state.covered_until_us,
                state.rows,
                context.clock.monotonic() - began,
            )
        )
        return state

    async def _carry(
        self, reading: Reading, state: ReaderState, lost: Sequence[Lost], *, clean: bool
    ) -> tuple[ReaderState | None, bool]:
        """Carry one page; return the state behind it and whether nothing was lost so far.

        The state is None for a page that must be fetched again.
        """
        # A function of its own, so that nothing keeps the page: the next one is read into the
        # same memory.
        known = self._key_sets.known
        page = await self._fetch(reading, state)
        losses = (*lost, *self._expired(reading, state), *page.lost)
        unharmed = clean and not losses
        stored = await self._store(reading, state, page, losses, known, clean=unharmed)
        return stored, unharmed

    async def _fetch(self, reading: Reading, state: ReaderState) -> Page:
        source, window = self._context.source, state.window
        assert window is not None  # noqa: S101 - read() loops while there is one
        page = await self._retrier.until_done(
            reading.reader,
            lambda: source.fetch(
                window, state.position, parts=reading.parts, purpose=reading.purpose
            ),
            raise_held=bool(reading.parts),
        )
        # Every answer tells the time, so that a clock that was wrong once is corrected soon.
        self._server_clock.tell(page.server_time_us, self._context.clock.monotonic())
        return page

    def _expired(self, reading: Reading, state: ReaderState) -> Sequence[Lost]:
        """Return what expired unread inside this window, because an outage came between."""
        if reading.purpose not in (Purpose.LIVE, Purpose.RESCUE) or state.reached_us is None:
            return ()
        lost = beyond_retention(state.reached_us, self.now_us(), self._context.retention)
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
        """Return the state behind the page, None for a page that must be fetched again."""
        context, answered = self._context, self._context.clock.monotonic()
        log, ended = context.log, page.position is None
        # Only the live lane forgets: a backfill does not know what the live readers have met.
        new_keys, old_keys = self._key_sets.changes(page, forget=reading.lane == LIVE)
        addition = Addition(
            reader=reading.reader,
            state=self._ended(reading, state) if ended else _further(state, page),
            seen_us=context.clock.now_us(),
            records=page.records,
            aliases=aliases(page, self._key_sets.known),
            known=known,
            new_keys=new_keys,
            old_keys=old_keys,
            lost=lost,
            tell=reading.tell if ended else _nothing,
            lane=reading.lane,
            again=reading.again,
            # Open gaps of the stream are closed only by a live round that has lost nothing.
            settled=ended and clean and reading.reader == LIVE,
        )
        appended = await self._retrier.until_done(reading.reader, lambda: log.append(addition))
        self._key_sets.learn(appended.key_sets)
        # Another reader has met rows with more keys meanwhile: fetched again, these rows have them.
        if appended.overtaken:
            return None
        self._last_success = context.clock.monotonic()
        self._emit_stored(reading, page, appended, answered)
        return replace(addition.state, rows=appended.rows)

    def _ended(self, reading: Reading, state: ReaderState) -> ReaderState:
        """Return the state behind the window; the live reader never gets ahead of the server."""
        until_us = state.window.until_us if state.window else state.covered_until_us
        if reading.reader == LIVE:
            until_us = min(until_us, self.now_us())
        covered_us = max(state.covered_until_us, until_us - reading.hold_back_us)
        return ReaderState(covered_us, rows=state.rows)

    def _emit_stored(
        self, reading: Reading, page: Page, appended: Appended, answered: float
    ) -> None:
        context, now_us, limit = self._context, self.now_us(), reading.late_before_us
        times_us = Records.of(page.records).times_us
        times = [times_us[index] for index in appended.new]
        late = [(now_us - t) / SECOND_US for t in times if limit and t is not None and t < limit]
        context.emit(
            PageStored(
                context.account,
                context.key.stream,
                reading.reader,
                len(page.records),
                len(appended.new),
                appended.reshaped,
                page.malformed,
                times.count(None),
                tuple(late),
                context.clock.monotonic() - answered,
                page.amended,
            )
        )


def _further(state: ReaderState, page: Page) -> ReaderState:
    reached_us = max(state.read_until_us, page.reached_us or state.read_until_us)
    return replace(state, position=page.position, reached_us=reached_us)
