"""A histogram that takes counts between fixed bounds, a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


@dataclass(slots=True)
class _Sums:
    counts: list[int]
    total: float = field(default=0.0)


class CountedHistogram(Collector):
    """Adds up counts that somebody else has sorted into buckets."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """Declare it; ``bounds`` are upper bounds, beyond the last there is one bucket more."""
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._bounds = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._sums: dict[tuple[str, ...], _Sums] = {}
        registry.register(self)

    def add(self, labels: Sequence[str], counts: Sequence[int], total: float) -> None:
        """Add the counts of one batch and the sum of its values."""
        sums = self._sums.setdefault(tuple(labels), _Sums([0] * len(self._bounds)))
        sums.counts = [have + more for have, more in zip(sums.counts, counts, strict=True)]
        sums.total += total

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the histogram; called by prometheus_client."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, sums in self._sums.items():
            buckets = list(zip(self._bounds, accumulate(sums.counts), strict=True))
            family.add_metric(labels, buckets, sums.total)
        yield family

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Name the histogram without asking for values."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)
