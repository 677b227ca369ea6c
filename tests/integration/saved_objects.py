"""Reads what is in deploy/elastic: dashboards as searches, and every field that is named there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parents[2] / "deploy" / "elastic"
_FIELD = re.compile(r'([@\w]+(?:\.\w+)*):(?:\*|"|\()')


def lines_of(name: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (FOLDER / name).read_bytes().splitlines()]


def panels() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the id, the query and the state of each visualization."""
    for each in lines_of("dashboards.ndjson"):
        if each["type"] == "visualization":
            about = each["attributes"]
            source = orjson.loads(about["kibanaSavedObjectMeta"]["searchSourceJSON"])
            yield each["id"], source["query"]["query"], orjson.loads(about["visState"])


def search_of(query: str, state: dict[str, Any]) -> dict[str, Any]:
    """Return the search that a visualization of these aggregations is drawn from."""
    metrics = [each for each in state["aggs"] if each["schema"] == "metric"]
    numbers = {
        each["id"]: {each["type"]: {"field": each["params"]["field"]}}
        for each in metrics
        if each["type"] != "count"
    }
    within: dict[str, Any] = numbers
    for each in reversed([each for each in state["aggs"] if each["schema"] != "metric"]):
        within = {each["id"]: {**_bucket(each, numbers), "aggs": {**numbers, **within}}}
    text = {"query_string": {"query": query, "analyze_wildcard": True}}
    return {"size": 0, "track_total_hits": True, "query": text, "aggs": within}


def _bucket(each: dict[str, Any], numbers: dict[str, Any]) -> dict[str, Any]:
    params = each["params"]
    if each["type"] == "date_histogram":
        assert params["interval"] == "auto"
        options = {"fixed_interval": "1h", "min_doc_count": params["min_doc_count"]}
        return {"date_histogram": {"field": params["field"], **options}}
    order = params["orderBy"] if params["orderBy"] in numbers else "_count"
    options = {"size": params["size"], "order": {order: params["order"]}}
    return {"terms": {"field": params["field"], **options}}


def drawn(answer: dict[str, Any], state: dict[str, Any]) -> bool:
    """Return True if there is something to draw: a number above zero, or innermost buckets."""
    split = [each["id"] for each in state["aggs"] if each["schema"] != "metric"]
    level: list[dict[str, Any]] = [{"doc_count": answer["hits"]["total"]["value"], **_aggs(answer)}]
    for name in split:
        level = [bucket for one in level for bucket in one[name]["buckets"]]
    number = state["aggs"][0]["id"]
    return any((one.get(number, {}).get("value", one["doc_count"]) or 0) > 0 for one in level)


def _aggs(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer.get("aggregations", {})
    return found


def fields() -> set[str]:
    """Return every field that a dashboard, a monitor or a rule names."""
    found = set(_keys(lines_of("opensearch/monitors.ndjson"), "field"))
    for _, query, state in panels():
        found |= {*_FIELD.findall(query), *_keys(state["aggs"], "field")}
    for rule in lines_of("elasticsearch/rules.ndjson"):
        found |= {*_FIELD.findall(rule["query"]), *rule.get("new_terms_fields", [])}
        if rule["type"] == "esql":
            found |= set(
                re.findall(r"[a-z_]+(?:\.[a-z_]+)+(?! *-)", _without_source(rule["query"]))
            )
    for query in _keys(lines_of("opensearch/monitors.ndjson"), "query"):
        found |= set(_FIELD.findall(query)) if isinstance(query, str) else set()
    return found


def _without_source(esql: str) -> str:
    return re.sub(r'"[^"]*"', "", esql.partition("\n")[2])


def _keys(value: Any, key: str) -> Iterator[Any]:
    """Yield the value of each ``key`` at any depth."""
    if isinstance(value, list):
        for each in value:
            yield from _keys(each, key)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name == key:
                yield each
            yield from _keys(each, key)
