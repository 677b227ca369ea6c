"""However much happens, the number of series follows from the settings alone, and stays small."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import pytest
from prometheus_client import generate_latest

from forwarder.observe.gauges import GAUGES, STATES, GaugeCollector
from forwarder.observe.metrics import GAP_REASONS, PUSH_RESULTS, CountedHistogram, Metrics

STREAMS = ("access_requests", "scim_updates")
ACCOUNTS = tuple(f"a-company-with-a-long-name-{number}" for number in range(50))


def everything(sinks: int) -> Metrics:
    """Return metrics in which every label has had every value that it can have.

    A new label must get its bound here, or it may not exist.
    """
    bounds: dict[str, tuple[str, ...]] = {
        "account": ACCOUNTS,
        # The receiver accepts 256 datasets of all accounts.
        "dataset": tuple(f"dataset_{number}" for number in range(256 // 50)),
        "endpoint": ("access_requests", "scim_updates", "identity_providers"),
        "kind": ("outage", "timeout", "throttled", "operator", "stream", "sink"),
        "notice": tuple(f"notice_{number}" for number in range(10)),
        "outcome": ("2xx", "3xx", "4xx", "5xx", "none"),
        "reason": GAP_REASONS,
        "shard": tuple(map(str, range(64))),
        "result": ("applied", "refused", *PUSH_RESULTS),
        "side": ("theirs", "ours"),
        "since": ("event", "seen"),
        "state": STATES,
        "sink": tuple(f"destination-{number}" for number in range(sinks)),
        "stream": (*STREAMS, "forwarder"),
        "where": ("listener admin", "listener logpush", *(f"sink {n}" for n in range(sinks))),
    }
    metrics = Metrics()
    for collector in filter(labels_of, metrics.collectors):
        for values in product(*(bounds[label] for label in labels_of(collector))):
            if isinstance(collector, CountedHistogram):
                collector.observe(values, [1] * 13, 12_345.678)
            else:
                collector.labels(*values)
    samples = [
        (gauge.name, values, 1_800_000_000.5)
        for gauge in GAUGES
        for values in product(*(bounds[label] for label in gauge.labels))
    ]
    metrics.registry.register(GaugeCollector(lambda: samples))
    return metrics


def labels_of(collector: Any) -> tuple[str, ...]:
    own = "_labels" if isinstance(collector, CountedHistogram) else "_labelnames"
    return tuple(getattr(collector, own))


def least_time_to_format(text: str) -> float:
    """Return seconds of the processor for splitting and formatting every line once."""
    times = []
    for _ in range(5):
        began = time.process_time()
        "".join(
            f"{name} {value}\n" for name, _, value in (x.rpartition(" ") for x in text.split("\n"))
        )
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("sinks", [4, 10])
def test_fifty_accounts_and_many_sinks_stay_small_and_quick(sinks: int) -> None:
    """A scrape costs the processor little more than putting its text together from lines."""
    metrics = everything(sinks)
    times, text = [], ""
    for _ in range(5):
        began = time.process_time()
        text = generate_latest(metrics.registry).decode()
        times.append(time.process_time() - began)

    series = sum(not line.startswith("#") for line in text.splitlines())
    print(f"{sinks} sinks: {series} series, {len(text)} bytes, {min(times) * 1000:.0f} ms")  # noqa: T201
    assert series < 12_000
    assert min(times) < 100 * least_time_to_format(text)


def test_no_metric_has_both_account_and_sink() -> None:
    declared = [*map(labels_of, Metrics().collectors), *(gauge.labels for gauge in GAUGES)]
    assert [labels for labels in declared if {"account", "sink"} <= set(labels)] == []
