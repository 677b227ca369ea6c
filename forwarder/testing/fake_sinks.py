"""Batches and contexts for tests of sinks, and sinks that answer by a script and keep accounts.

``ScriptedSink`` answers as a test says; ``RandomFaults`` draws every kind of failure that a
destination can have from a seed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from forwarder.core.contracts import (
    ACCEPTED,
    Batch,
    BatchEvent,
    BatchLimits,
    Rejection,
    SinkContext,
    WriteResult,
)
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.core.identity import Identifier
from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock, SystemClock

_FIRST_US = 1_767_225_600_123_456
_SECOND_US = 1_000_000


def make_event(
    offset: int,
    *,
    stream: str = "access_requests",
    account: str = "acme",
    body: bytes | None = None,
) -> BatchEvent:
    """Return the event at ``offset``: the same offset always gives the same id and time.

    Its body is ``{"id": ..., "n": offset}`` unless another one is given.
    """
    # By the real function: a sink may depend on the form of an id.
    identity = Identifier(account, stream).identity({"n": offset}).hex()
    return BatchEvent(
        offset=offset,
        id=identity,
        stream=stream,
        account=account,
        time_us=_FIRST_US + offset * _SECOND_US,
        # Not equal to time_us: a sink that takes one for the other must fail.
        seen_us=_FIRST_US + offset * _SECOND_US + 5 * _SECOND_US,
        outcome="success",
        user="ada@example.com",
        body=b'{"id":"%s","n":%d}' % (identity.encode(), offset) if body is None else body,
    )


def make_batch(count: int = 3, *, first_offset: int = 0, stream: str = "access_requests") -> Batch:
    """Return ``count`` events with consecutive offsets."""
    offsets = range(first_offset, first_offset + count)
    return batch_of([make_event(offset, stream=stream) for offset in offsets])


def batch_of(events: Sequence[BatchEvent]) -> Batch:
    """Return a batch with just these events."""
    return Batch(events=events, size=sum(len(event.body) for event in events))


def sink_context(
    *,
    name: str = "test",
    media_type: str = "application/json",
    clock: Clock | None = None,
    emit: Emit = ignore,
) -> SinkContext:
    """Return what the runtime would give a sink."""
    text = "raw" if media_type == "application/json" else "cef"
    return SinkContext(name, text, media_type, clock or SystemClock(), "forwarder/test", emit)


Answer: TypeAlias = WriteResult | Exception | Callable[[Batch], Awaitable[WriteResult]]
"""A result to return, an error to raise, or a coroutine function of the batch that does either."""


async def hang(_: Batch) -> WriteResult:
    """Never answer; for ``answers`` and ``otherwise``."""
    await asyncio.Event().wait()
    return ACCEPTED


@dataclass
class ScriptedSink:
    """A ``Sink`` for tests of whatever writes to sinks.

    ``answers`` are given to the writes in the order in which they start; after that every write
    is answered with ``otherwise``. ``opening`` does the same for ``open``; None is success. An
    event counts as delivered when an answer accepts it::

        sink = ScriptedSink(answers=[TransientError("away"), ACCEPTED])
        ...
        assert sink.delivered == Counter(range(100))

    ``writes`` holds the offsets of each write, ``most_at_once`` the highest number of writes
    under way together. ``release`` lets go of the events before answering, as a sink does that
    has handed the bytes over.
    """

    answers: list[Answer] = field(default_factory=list)
    otherwise: Answer = ACCEPTED
    opening: list[Exception | None] = field(default_factory=list)
    limits: BatchLimits = field(default_factory=BatchLimits)
    release: bool = False
    delivered: Counter[int] = field(default_factory=Counter)
    writes: list[list[int]] = field(default_factory=list)
    opens: int = 0
    closes: int = 0
    under_way: int = 0
    most_at_once: int = 0

    async def open(self) -> None:
        """Take the next entry of ``opening``."""
        assert self.under_way == 0, "opened while a write was under way"
        self.opens += 1
        error = self.opening.pop(0) if self.opening else None
        if error is not None:
            raise error

    async def write(self, batch: Batch) -> WriteResult:
        """Take the next answer, and keep account of what it accepts."""
        # Of its own: releasing the batch must not empty the accounts.
        seen = Batch(batch.events, batch.size, batch.lane)
        if self.release:
            batch.release()
        self.writes.append([event.offset for event in seen.events])
        answer = self.answers.pop(0) if self.answers else self.otherwise
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            result = await _follow(answer, seen)
        finally:
            self.under_way -= 1
        refused = {rejection.offset for rejection in result.rejected} | result.deferred
        self.delivered.update(e.offset for e in seen.events if e.offset not in refused)
        return result

    async def aclose(self) -> None:
        """Count; may be called as often as one likes."""
        self.closes += 1


async def _follow(answer: Answer, batch: Batch) -> WriteResult:
    await asyncio.sleep(0)
    if isinstance(answer, Exception):
        raise answer
    return answer if isinstance(answer, WriteResult) else await answer(batch)


WEIGHTS = {
    "success": 10.0,
    "slow_down": 1.0,
    "throttled": 1.0,
    "outage": 1.0,
    "deferred": 1.0,
    "ambiguous": 0.5,
    "timeout": 0.3,
    "operator": 0.2,
    "bug": 0.2,
}
"""How often each kind of answer comes up; give a smaller dict to leave kinds out."""


@dataclass
class RandomFaults:
    """A random ``Answer`` for each write; give it to a ``ScriptedSink`` as ``otherwise``.

    ``rejects`` are offsets that the destination refuses by name, ``poison`` those that make it
    refuse the whole batch, ``most_bytes`` is what it takes at once. A write takes up to
    ``latency`` seconds of ``clock``.

    ``ambiguous`` and ``timeout`` take a part of the batch and then say that they failed, or
    nothing at all: ``arrived`` counts these events. They, and only they, may come twice::

        faults = RandomFaults(Random(1), clock, rejects=frozenset({7}))
        sink = ScriptedSink(otherwise=faults)
        ...
        assert all(sink.delivered[offset] == 1 for offset in offsets if offset != 7)

    ``given`` counts the answers by kind, so that a test can show that each was met.
    """

    rng: Random
    clock: Clock
    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    rejects: frozenset[int] = frozenset()
    poison: frozenset[int] = frozenset()
    most_bytes: int | None = None
    latency: float = 0.05
    arrived: Counter[int] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)

    async def __call__(self, batch: Batch) -> WriteResult:
        """Answer one write."""
        await self.clock.sleep(self.rng.uniform(0.0, self.latency))
        (kind,) = self.rng.choices(list(self.weights), list(self.weights.values()))
        self.given[kind] += 1
        if kind in {"ambiguous", "timeout"}:
            taken = self.rng.randint(0, len(batch.events))
            self.arrived.update(event.offset for event in batch.events[:taken])
        return await self._answer(kind, batch)

    async def _answer(self, kind: str, batch: Batch) -> WriteResult:
        match kind:
            case "timeout":
                # For ever: it is the engine that ends a write that takes too long.
                return await hang(batch)
            case "outage" | "ambiguous":
                raise TransientError("the connection was reset")
            case "throttled":
                raise TransientError("too many requests", retry_after=self.rng.uniform(0.0, 3.0))
            case "operator":
                raise NeedsOperatorError("the token is not known", hint="look at the token")
            case "bug":
                # No error of ours: a sink's own mistake must not end its consumer.
                raise LookupError("an error of the sink itself")
        return self._judge(kind, batch)

    def _judge(self, kind: str, batch: Batch) -> WriteResult:
        # The size first: a destination judges it before it reads a single event.
        if self.most_bytes is not None and batch.size > self.most_bytes:
            raise BatchTooLargeError(f"takes {self.most_bytes} bytes at most")
        if any(event.offset in self.poison for event in batch.events):
            raise BatchRefusedError("one of these is not valid")
        rejected = [
            Rejection(event.offset, "the field user is no address")
            for event in batch.events
            if event.offset in self.rejects
        ]
        deferred = self._some(batch.events) if kind == "deferred" else frozenset[int]()
        if not rejected and not deferred and kind == "success":
            return ACCEPTED
        return WriteResult(
            # An event has one fate in a result.
            rejected=[one for one in rejected if one.offset not in deferred],
            deferred=deferred,
            slow_down=kind == "slow_down",
        )

    def _some(self, events: Sequence[BatchEvent]) -> frozenset[int]:
        share = self.rng.random()
        return frozenset(event.offset for event in events if self.rng.random() < share)
