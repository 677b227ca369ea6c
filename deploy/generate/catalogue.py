"""Every metric that the daemon can show: names, labels, meaning, and the series it consists of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from forwarder.observe.gauges import GAUGES
from forwarder.observe.metrics import CountedHistogram, Metrics

_SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
    "gauge": ("",),
}


@dataclass(frozen=True, slots=True)
class Described:
    """One metric; ``series`` are the names that a query may use."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> tuple[str, ...]:
        """Return the names of its time series."""
        return tuple(self.name + suffix for suffix in _SUFFIXES[self.kind])


def catalogue() -> list[Described]:
    """Return all metrics, sorted by name."""
    gauges = (Described(one.name, "gauge", one.labels, one.text) for one in GAUGES)
    return sorted((*_declared(Metrics()), *gauges), key=lambda one: one.name)


def _declared(metrics: Metrics) -> Iterator[Described]:
    for collector in metrics.collectors:
        for family in collector.describe():
            yield _described(family, _labels_of(collector))


def _labels_of(collector: object) -> tuple[str, ...]:
    """Return the label names, which the library shows nowhere before a first sample."""
    own = "_labels" if isinstance(collector, CountedHistogram) else "_labelnames"
    return tuple(getattr(collector, own))


def _described(family: Metric, labels: tuple[str, ...]) -> Described:
    return Described(family.name, family.type, labels, family.documentation)
