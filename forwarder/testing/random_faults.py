"""Every kind of trouble a destination makes, drawn from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from forwarder.core.clock import Clock
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.core.model import ACCEPTED, Batch, BatchEvent, Rejection, WriteResult
from forwarder.testing.scripted_sink import hang

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
    """An ``Answer`` drawn anew for each write; give it to a ``ScriptedSink`` as ``otherwise``.

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
                return await hang(batch)
            case "outage" | "ambiguous":
                raise TransientError("the connection was reset")
            case "throttled":
                raise TransientError("too many requests", retry_after=self.rng.uniform(0.0, 3.0))
            case "operator":
                raise NeedsOperatorError("the token is not known", hint="look at the token")
            case "bug":
                raise LookupError("an error of the sink itself")
        return self._judge(kind, batch)

    def _judge(self, kind: str, batch: Batch) -> WriteResult:
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
            rejected=[one for one in rejected if one.offset not in deferred],
            deferred=deferred,
            slow_down=kind == "slow_down",
        )

    def _some(self, events: Sequence[BatchEvent]) -> frozenset[int]:
        share = self.rng.random()
        return frozenset(event.offset for event in events if self.rng.random() < share)
