"""Memory and other resources of a running process over time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import linear_regression

import psutil

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: seconds since the first one, bytes resident, descriptors, threads."""

    at: float
    resident: int
    descriptors: int
    threads: int


@dataclass(slots=True)
class Watch:
    """Samples in order."""

    samples: list[Sample] = field(default_factory=list)

    def after(self, seconds: float) -> Sequence[Sample]:
        """Return the samples after the warm-up."""
        return [sample for sample in self.samples if sample.at >= seconds]

    @property
    def highest(self) -> float:
        """Return the most memory that was resident, in MiB."""
        return max(sample.resident for sample in self.samples) / MIB


def slope(samples: Sequence[Sample]) -> float:
    """Return the least-squares slope of resident memory in MiB an hour."""
    times = [sample.at / 3600 for sample in samples]
    return linear_regression(times, [sample.resident / MIB for sample in samples]).slope


def growth(samples: Sequence[Sample]) -> float:
    """Return how much higher memory was at the end than in the first quarter, in MiB."""
    quarter = max(1, len(samples) // 4)
    first = max(sample.resident for sample in samples[:quarter])
    last = max(sample.resident for sample in samples[-quarter:])
    return (last - first) / MIB


def level(numbers: Sequence[int]) -> bool:
    """Return True if a count goes up and down at will, but does not climb all the time."""
    third = max(1, len(numbers) // 3)
    rising = sum(b > a for a, b in pairwise(numbers))
    return max(numbers[-third:]) <= max(numbers[: 2 * third]) + 2 or rising == 0


@asynccontextmanager
async def watched(process: psutil.Process, every: float = 0.5) -> AsyncIterator[Watch]:
    """Sample a process as long as the block runs."""
    watch, began = Watch(), time.monotonic()

    async def look() -> None:
        while True:
            with suppress(psutil.NoSuchProcess), process.oneshot():
                watch.samples.append(
                    Sample(
                        time.monotonic() - began,
                        process.memory_info().rss,
                        process.num_fds(),
                        process.num_threads(),
                    )
                )
            await asyncio.sleep(every)

    looking = asyncio.create_task(look())
    try:
        yield watch
    finally:
        looking.cancel()
