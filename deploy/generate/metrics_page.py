"""docs/metrics.md, out of the metrics as they are declared. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deploy.generate.catalogue import Described

_HEAD = """\
<!-- Generated from the code: make generate -->
# Metrics

`GET /metrics` of the admin server (`admin.listen`) shows these in Prometheus' text format. Counters
of delivery count at the acknowledgement, never before. Labels are bounded: accounts, streams and
sinks come from the settings, everything else from lists in the code, and no metric has both account
and sink. Rules and alerts: `deploy/prometheus/`, dashboard: `deploy/grafana/`.

Counters of the streams, sinks and gap reasons that are known begin at zero. Requests to the API and
what plugins report appear when they first happen, so `increase()` does not see their first step;
the alerts of `deploy/prometheus/` show how to ask for it.
"""
_GROUPS = (
    ("Sinks", ("forwarder_sink_",)),
    ("Journal", ("forwarder_journal_", "forwarder_backpressure", "forwarder_store_")),
    ("Requests to the API", ("forwarder_api_",)),
    (
        "Streams",
        (
            "forwarder_row",
            "forwarder_round",
            "forwarder_poll_",
            "forwarder_stream_",
            "forwarder_covered_",
            "forwarder_retention_",
            "forwarder_last_poll_",
        ),
    ),
)
_REST = "Process"


def metrics_page(metrics: Sequence[Described]) -> str:
    """Return the page."""
    groups: dict[str, list[Described]] = {_REST: [], "Streams": []}
    for metric in metrics:
        groups.setdefault(_group(metric.name), []).append(metric)
    order = (_REST, "Streams", "Requests to the API", "Journal", "Sinks")
    return "\n".join([_HEAD, *(_section(name, groups.get(name, [])) for name in order)])


def _group(name: str) -> str:
    for group, prefixes in _GROUPS:
        if name.startswith(prefixes):
            return group
    return _REST


def _section(title: str, metrics: Iterable[Described]) -> str:
    rows = "\n".join(
        f"| `{metric.series[0] if metric.kind != 'histogram' else metric.name}` | {metric.kind} "
        f"| {', '.join(f'`{label}`' for label in metric.labels)} | {metric.text} |"
        for metric in metrics
    )
    return f"## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n{rows}\n"
