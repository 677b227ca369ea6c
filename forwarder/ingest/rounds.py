"""Reads one window to its end: page by page, each stored with the position behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

from forwarder.core.backoff import Backoff
from forwarder.core.clock import Clock
from forwarder.core.contracts import Purpose, Source
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.happenings import Report
from forwarder.core.log import Addition, Appended, KeySet, ReaderState
from forwarder.core.model import LIVE, Lost, Page, StreamKey
from forwarder.ingest.gate import Gate
from forwarder.ingest.happenings import FetchFailed, FetchRecovered, PageStored, RoundEnded
from forwarder.ingest.server_clock import ServerClock
from forwarder.ingest.shapes import aliases, unknown_keys
from forwarder.ingest.stream_log import StreamLog
from forwarder.ingest.windows import SECOND_US, retention_left

T = TypeVar("T")
OwnRows = Sequence[Mapping[str, Any]]


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


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a reader cannot go on at present."""

    error: str
    hint: str
    held: bool
    since: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every reader of one stream works with; ``beat`` says that the loop is alive."""

    key: StreamKey
    account: str
    source: Source
    log: StreamLog
    gate: Gate
    clock: Clock
    rng: Random
    report: Report
    beat: Callable[[], None]
    retention: float
    backoff: Backoff = field(default_factory=Backoff)


class Rounds:
    """Carries pages from the source into the log, as often as it takes."""

    def __init__(self, around: Surroundings) -> None:
        """Know nothing of the stream yet; ``key_sets`` is filled when the log was loaded."""
        self._around = around
        self.server_clock = ServerClock()
        self.key_sets: Sequence[KeySet] = ()
        self.troubles: dict[str, Trouble] = {}
        self.last_success: float | None = None
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Stop waiting: something was mended."""
        self._wake.set()
        self._wake = asyncio.Event()

    async def read(self, reading: Reading, state: ReaderState) -> ReaderState:
        """Read ``state.window`` to its end and return the reader's state behind it.

        Returns only then; failures are reported and waited out, for ever. May be cancelled at
        any await and resumed with the state that the log has.
        """
        around, began, lost = self._around, self._around.clock.monotonic(), reading.lost
        while state.window is not None:
            around.beat()
            await around.gate.passage(
                backfill=reading.purpose is Purpose.BACKFILL, beat=around.beat
            )
            state = await self._read_page(reading, state, lost)
            lost = ()
        around.report(
            RoundEnded(
                around.account,
                around.key.stream,
                reading.reader,
                state.covered_until_us,
                retention_left(state.covered_until_us, self.now_us(), around.retention),
                state.rows,
                around.clock.monotonic() - began,
            )
        )
        return state

    def now_us(self) -> int:
        """Return the server's time; valid once ``learn_time`` has returned."""
        return self.server_clock.now_us(self._around.clock.monotonic())

    async def learn_time(self) -> None:
        """Ask the server for its time if no answer has told it yet."""
        if not self.server_clock.known:
            server_us = await self.persist("start", self._around.source.server_time_us)
            self.server_clock.tell(server_us, self._around.clock.monotonic())

    async def persist(self, reader: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Call ``attempt`` until it succeeds; report, wait and remember each failure."""
        while True:
            self._around.beat()
            try:
                result = await attempt()
            except TransientError as error:
                await self._wait_out(reader, error)
            else:
                self._recover(reader)
                return result

    async def _read_page(
        self, reading: Reading, state: ReaderState, lost: tuple[Lost, ...]
    ) -> ReaderState:
        around, window = self._around, state.window
        assert window is not None  # noqa: S101 - read() loops while there is one
        page = await self.persist(
            reading.reader,
            lambda: around.source.fetch(
                window, state.position, parts=reading.parts, purpose=reading.purpose
            ),
        )
        answered = around.clock.monotonic()
        self.server_clock.tell(page.server_time_us, answered)
        addition = self._addition(reading, state, page, lost)
        appended = await self.persist(reading.reader, lambda: around.log.append(addition))
        self.key_sets = appended.key_sets
        self.last_success = around.clock.monotonic()
        self._report_page(reading, page, appended, answered)
        return replace(addition.state, rows=appended.rows)

    def _addition(
        self, reading: Reading, state: ReaderState, page: Page, lost: tuple[Lost, ...]
    ) -> Addition:
        window = state.window
        ended = page.position is None and window is not None
        if ended and window is not None:
            covered_us = max(state.covered_until_us, window.until_us)
            after = ReaderState(covered_us, rows=state.rows)
        else:
            reached_us = max(state.read_until_us, page.reached_us or 0)
            after = replace(state, position=page.position, reached_us=reached_us)
        return Addition(
            reader=reading.reader,
            state=after,
            seen_us=self._around.clock.now_us(),
            records=page.records,
            aliases=aliases(page, self.key_sets),
            new_keys=unknown_keys(page, self.key_sets),
            lost=lost + page.lost,
            tell=reading.tell if ended else _nothing,
            lane=reading.lane,
            again=reading.again,
            settled=ended and reading.reader == LIVE,
        )

    def _report_page(
        self, reading: Reading, page: Page, appended: Appended, answered: float
    ) -> None:
        around, now_us, limit = self._around, self.now_us(), reading.late_before_us
        times = [page.records[index].time_us for index in appended.new]
        late = [(now_us - t) / SECOND_US for t in times if limit and t is not None and t < limit]
        around.report(
            PageStored(
                around.account,
                around.key.stream,
                reading.reader,
                len(page.records),
                len(appended.new),
                appended.reshaped,
                page.malformed,
                sum(time_us is None for time_us in times),
                tuple(late),
                around.clock.monotonic() - answered,
            )
        )

    async def _wait_out(self, reader: str, error: TransientError) -> None:
        around, held = self._around, isinstance(error, NeedsOperatorError)
        known = self.troubles.get(reader)
        attempts = known.attempts + 1 if known else 1
        since = known.since if known else around.clock.monotonic()
        self.troubles[reader] = Trouble(str(error), error.hint, held, since, attempts)
        wait = around.backoff.delay(attempts, around.rng, retry_after=error.retry_after, slow=held)
        around.report(
            FetchFailed(
                around.account,
                around.key.stream,
                reader,
                str(error),
                error.hint,
                attempts,
                wait,
                held,
            )
        )
        await self.pause(wait)

    def _recover(self, reader: str) -> None:
        trouble = self.troubles.pop(reader, None)
        if trouble is not None:
            around = self._around
            seconds = around.clock.monotonic() - trouble.since
            around.report(
                FetchRecovered(around.account, around.key.stream, reader, trouble.attempts, seconds)
            )

    async def pause(self, seconds: float) -> None:
        """Wait, or less when ``wake`` is called."""
        waits = [
            asyncio.ensure_future(self._around.clock.sleep(seconds)),
            asyncio.ensure_future(self._wake.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
