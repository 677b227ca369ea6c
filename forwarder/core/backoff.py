"""How long to wait before trying again: exponential, full jitter, the other side's wish first."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Bounds of the waiting time in seconds.

    ``slow_initial`` and ``slow_max`` serve faults that a person must mend: hammering a wrong token
    helps nobody, yet it must heal within minutes of being mended.
    """

    initial: float = 1.0
    max: float = 30.0
    slow_initial: float = 15.0
    slow_max: float = 60.0

    def delay(
        self, attempt: int, rng: Random, *, retry_after: float | None = None, slow: bool = False
    ) -> float:
        """Return seconds to wait after failed attempt number ``attempt`` (1 is the first).

        Full jitter: uniform between zero and the growing ceiling, for slow faults between half
        the ceiling and the ceiling. What the other side asked for is a lower bound.
        """
        first, most = (self.slow_initial, self.slow_max) if slow else (self.initial, self.max)
        ceiling = min(most, first * 2.0 ** min(attempt - 1, 30))
        wait = rng.uniform(ceiling / 2 if slow else 0.0, ceiling)
        return wait if retry_after is None else retry_after + rng.uniform(0.0, min(1.0, ceiling))
