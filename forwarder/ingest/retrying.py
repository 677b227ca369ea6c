"""When a stream may read: the gate, and retries after failures.

Backpressure: no more rows are fetched while the journal is full.

Tries again for as long as it takes, and remembers what is in the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias, TypeVar

from forwarder.core.contracts import StreamKey
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.log import StreamLog
from forwarder.core.source_contract import Source
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Backoff, Clock
from forwarder.ingest.events import FetchFailed, FetchRecovered, GateClosed, GateOpened, StreamHeld

_CLOSES, _OPENS, _PAUSES_BACKFILL = 0.95, 0.80, 0.50
_LOOK_S = 0.5


def moved(undelivered: int, limit: int, *, closed: bool) -> bool:
    """Return whether the gate is closed now: shuts near the limit, opens below 80 % of it.

    What is left above 95 % is for acknowledgements, gaps and dead letters.
    """
    return undelivered >= limit * (_OPENS if closed else _CLOSES)


class Gate:
    """Stands before every fetch; shared by all streams of the process."""

    def __init__(
        self, limit: int, measure: Callable[[], Awaitable[int]], clock: Clock, emit: Emit
    ) -> None:
        """Take ``journal.max_size`` in bytes and how to measure what is undelivered."""
        self._limit = limit
        self._measure = measure
        self._clock = clock
        self._emit = emit
        self.closed = False
        self._undelivered = 0
        self._measured = float("-inf")

    async def passage(self, *, backfill: bool = False, beat: Callable[[], None]) -> None:
        """Return once there is room; ``backfill`` waits already at half of the limit.

        ``beat`` is called while waiting, so that a closed gate does not look like a stuck loop.
        """
        await self._look()
        while self.closed or (backfill and self._undelivered >= self._limit * _PAUSES_BACKFILL):
            beat()
            await self._clock.sleep(_LOOK_S)
            await self._look()

    async def _look(self) -> None:
        """Measure, at most twice a second while there is much room and at every call near it."""
        now = self._clock.monotonic()
        if now - self._measured < _LOOK_S and self._undelivered < self._limit * _PAUSES_BACKFILL:
            return
        self._undelivered, self._measured = await self._measure(), now
        closed = moved(self._undelivered, self._limit, closed=self.closed)
        if closed != self.closed:
            self.closed = closed
            moved_to = GateClosed if closed else GateOpened
            self._emit(moved_to(self._undelivered, self._limit))


T = TypeVar("T")
OwnRows: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a reader cannot go on at present."""

    error: str
    hint: str
    held: bool
    since: float
    attempts: int


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What every reader of one stream works with; ``beat`` says that the loop is alive."""

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
    """Waits out what passes, until it has passed or somebody wakes it."""

    def __init__(self, around: StreamContext) -> None:
        """Begin without trouble."""
        self._around = around
        self.troubles: dict[str, Trouble] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Stop waiting: something was mended."""
        self._wake.set()
        self._wake = asyncio.Event()

    async def until_done(
        self, reader: str, attempt: Callable[[], Awaitable[T]], *, anew: bool = False
    ) -> T:
        """Call ``attempt`` until it succeeds; report, wait and remember each failure.

        With ``anew`` it raises ``NeedsOperatorError``, after waiting, to be called with another
        ``attempt``: what a person mends may change the question.
        """
        while True:
            self._around.beat()
            try:
                result = await attempt()
            except TransientError as error:
                await self._wait_out(reader, error)
                if anew and isinstance(error, NeedsOperatorError):
                    raise
            else:
                self._recover(reader)
                return result

    async def _wait_out(self, reader: str, error: TransientError) -> None:
        around, held = self._around, isinstance(error, NeedsOperatorError)
        known = self.troubles.get(reader)
        attempts = known.attempts + 1 if known else 1
        since = known.since if known else around.clock.monotonic()
        self.troubles[reader] = Trouble(str(error), error.hint, held, since, attempts)
        wait = around.backoff.delay(attempts, around.rng, retry_after=error.retry_after, slow=held)
        failed = StreamHeld if held else FetchFailed
        key, text = around.key, str(error)
        around.emit(failed(around.account, key.stream, reader, text, error.hint, attempts, wait))
        await self.pause(wait)

    def _recover(self, reader: str) -> None:
        trouble = self.troubles.pop(reader, None)
        if trouble is not None:
            around = self._around
            seconds = around.clock.monotonic() - trouble.since
            around.emit(
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
