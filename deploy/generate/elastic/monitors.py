"""Monitors of OpenSearch's alerting: each is one search and a condition on its answer."""

from __future__ import annotations

import json
from typing import Any

from deploy.generate.elastic.detections import (
    DETECTIONS,
    Detection,
    FirstSeen,
    GapOrSilence,
    Logic,
    Many,
    Matching,
    Then,
)

_SEVERITIES = {"high": "1", "medium": "2", "low": "3"}
_HISTORY = 30 * 24 * 60
_MOST = 10_000
"""Users or addresses that one search looks at, those with most events first."""


def monitors() -> str:
    """Return one monitor a line."""
    return "".join(json.dumps(_monitor(one), ensure_ascii=False) + "\n" for one in DETECTIONS)


def _monitor(detection: Detection) -> dict[str, Any]:
    condition = {"source": _condition(detection.logic), "lang": "painless"}
    trigger = {
        "id": detection.id,
        "name": detection.title,
        "severity": _SEVERITIES[detection.severity],
        "condition": {"script": condition},
        "actions": [],
    }
    return {
        "type": "monitor",
        "monitor_type": "query_level_monitor",
        "name": f"Cloudflare Access: {detection.title}",
        # Installed but not running, as the rules of Elastic are: tune first.
        "enabled": False,
        "schedule": {"period": {"interval": detection.every, "unit": "MINUTES"}},
        "inputs": [{"search": {"indices": [detection.index], "query": _search(detection)}}],
        "triggers": [{"query_level_trigger": trigger}],
    }


def _search(detection: Detection) -> dict[str, Any]:
    minutes = _HISTORY if isinstance(detection.logic, FirstSeen) else detection.window
    wanted = [
        {"range": {"event.ingested": {"gte": _ago(minutes), "format": "epoch_millis"}}},
        _filter(detection.query),
    ]
    search: dict[str, Any] = {"size": 0, "query": {"bool": {"filter": wanted}}}
    match detection.logic:
        case Matching():
            # What a message of an action can show.
            return {**search, "size": 10, "sort": [{"event.ingested": "desc"}]}
        case Many() as many:
            return {**search, "aggs": _terms(many.by, _many(many))}
        case Then() as then:
            return {**search, "aggs": _terms(then.by, _then(then), people=then.people)}
        case FirstSeen() as new:
            return {**search, "aggs": _terms(new.by, _first_seen(new, detection.window))}
        case GapOrSilence():
            gaps, reports = (_filter(f'event.action:"{x}"') for x in ("gap_opened", "coverage"))
            return {**search, "aggs": {"gaps": {"filter": gaps}, "reports": {"filter": reports}}}


def _ago(minutes: int) -> str:
    # The plugin fills in the end of the period, in milliseconds; the server does the date maths.
    return f"{{{{period_end}}}}||-{minutes}m"


def _filter(query: str) -> dict[str, Any]:
    return {"query_string": {"query": query, "analyze_wildcard": True}}


def _terms(field: str, within: dict[str, Any], *, people: bool = False) -> dict[str, Any]:
    terms: dict[str, Any] = {"field": field, "size": _MOST}
    if people:
        terms["include"] = ".*@.*"
    return {"found": {"terms": terms, "aggs": within}}


def _selected(paths: dict[str, str], source: str) -> dict[str, Any]:
    # What is not there counts as zero: a bucket with a refusal only has no time of a success.
    script = {"source": source, "lang": "painless"}
    selector = {"buckets_path": paths, "script": script, "gap_policy": "insert_zeros"}
    return {"selected": {"bucket_selector": selector}}


def _many(logic: Many) -> dict[str, Any]:
    histogram = {"field": "@timestamp", "fixed_interval": f"1{logic.unit}", "min_doc_count": 1}
    distinct = {"distinct": {"cardinality": {"field": logic.distinct}}}
    return {
        "time": {"date_histogram": histogram, "aggs": distinct},
        "most": {"max_bucket": {"buckets_path": "time>distinct"}},
        **_selected({"most": "most"}, f"params.most >= {logic.least}"),
    }


def _then(logic: Then) -> dict[str, Any]:
    time = {"field": "@timestamp"}
    parts = {
        "first": {
            "filter": _filter(logic.first),
            "aggs": {
                "distinct": {"cardinality": {"field": logic.distinct}},
                "start": {"min": time},
                "last": {"max": time},
            },
        },
        "second": {"filter": _filter(logic.second), "aggs": {"last": {"max": time}}},
    }
    paths = {
        "count": "first>distinct",
        "start": "first>start",
        "last": "first>last",
        "then": "second>last",
    }
    source = (
        f"params.count >= {logic.least} && params.then > params.last "
        f"&& params.then - params.start <= {logic.hours * 3_600_000}L"
    )
    if logic.undone:
        parts["undone"] = {"filter": _filter(logic.undone), "aggs": {"last": {"max": time}}}
        paths["undone"] = "undone>last"
        source += " && params.undone < params.last"
    return {**parts, **_selected(paths, source)}


def _first_seen(logic: FirstSeen, window: int) -> dict[str, Any]:
    limit = _ago(window)
    old, new = (
        {"filter": {"range": {"event.ingested": {key: limit, "format": "epoch_millis"}}}}
        for key in ("lt", "gte")
    )
    if not logic.value:
        counts = {"old": "old._count", "new": "new._count"}
        return {
            "old": old,
            "new": new,
            **_selected(counts, "params.old == 0 && params.new > 0"),
        }
    unseen = _selected({"old": "old._count"}, "params.old == 0")
    values = {"terms": {"field": logic.value, "size": 300}, "aggs": {"old": old, **unseen}}
    counts = {"old": "old._count", "values": "values._bucket_count"}
    known = _selected(counts, "params.old > 0 && params.values > 0")
    return {"old": old, "values": values, **known}


def _condition(logic: Logic) -> str:
    if isinstance(logic, Matching):
        return "ctx.results[0].hits.total.value > 0"
    found = "ctx.results[0].aggregations"
    if isinstance(logic, GapOrSilence):
        return f"{found}.gaps.doc_count > 0 || {found}.reports.doc_count == 0"
    return f"{found}.found.buckets.size() > 0"
