"""The dashboards as saved objects that Kibana and OpenSearch Dashboards import alike.

Both still know the visualizations of version 7, and bring them up to date while they import.
"""

from __future__ import annotations

import json
from typing import Any

from deploy.generate.elastic.panels import DASHBOARDS, Dashboard, Panel

_PATTERN = "cloudflare_access"
_VERSIONS = {"index-pattern": "7.6.0", "visualization": "7.10.0", "dashboard": "7.9.3"}
_MAIN = {"title": "logs-cloudflare_access.*", "timeFieldName": "@timestamp"}
_WIDTH = 48
_SIZES = {"metric": (16, 7), "histogram": (48, 12), "pie": (24, 14), "table": (24, 14)}


def dashboards() -> str:
    """Return the text of the file to import."""
    objects = [_object("index-pattern", _PATTERN, _MAIN, [])]
    for one in DASHBOARDS:
        objects += [_visualization(f"{one.id}-{i}", panel) for i, panel in enumerate(one.panels)]
        objects.append(_dashboard(one))
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)


def _object(kind: str, name: str, attributes: Any, references: list[Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "id": name,
        "attributes": attributes,
        "references": references,
        "migrationVersion": {kind: _VERSIONS[kind]},
    }


def _visualization(name: str, panel: Panel) -> dict[str, Any]:
    index = "kibanaSavedObjectMeta.searchSourceJSON.index"
    source = {
        "query": {"language": "kuery", "query": panel.query},
        "filter": [],
        "indexRefName": index,
    }
    state = {
        "title": panel.title,
        "type": panel.kind,
        "aggs": _aggregations(panel),
        "params": _look(panel),
    }
    attributes = {
        "title": f"Cloudflare Access: {panel.title}",
        "visState": json.dumps(state),
        "uiStateJSON": "{}",
        "description": "",
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source)},
    }
    references = [{"name": index, "type": "index-pattern", "id": _PATTERN}]
    return _object("visualization", f"{_PATTERN}-{name}", attributes, references)


def _aggregations(panel: Panel) -> list[dict[str, Any]]:
    number: tuple[str, dict[str, Any]] = ("count", {})
    if panel.latest:
        number = ("max", {"field": "@timestamp"})
    elif panel.distinct:
        number = ("cardinality", {"field": panel.distinct})
    found = [_aggregation(1, *number, "metric")]
    if panel.kind == "histogram":
        time = {"field": "@timestamp", "interval": "auto", "min_doc_count": 1}
        found.append(_aggregation(2, "date_histogram", time, "segment"))
    schema = {"histogram": "group", "pie": "segment", "table": "bucket"}.get(panel.kind, "")
    for field in panel.by:
        terms = {"field": field, "size": 20, "orderBy": "1", "order": "desc"}
        found.append(_aggregation(len(found) + 1, "terms", terms, schema))
    return found


def _aggregation(number: int, kind: str, params: dict[str, Any], schema: str) -> dict[str, Any]:
    return {
        "id": str(number),
        "enabled": True,
        "type": kind,
        "params": params,
        "schema": schema,
    }


def _look(panel: Panel) -> dict[str, Any]:
    legend = {"addTooltip": True, "addLegend": True, "legendPosition": "right"}
    match panel.kind:
        case "pie":
            return {"type": "pie", "isDonut": True, **legend, "labels": {"show": True}}
        case "table":
            return {"perPage": 10, "showPartialRows": False, "showTotal": False}
        case "metric":
            style = {"fontSize": 36, "bgColor": False, "labelColor": False, "subText": ""}
            metric = {
                "colorSchema": "Green to Red",
                "colorsRange": [{"from": 0, "to": 10000}],
                "labels": {"show": True},
                "metricColorMode": "None",
                "percentageMode": False,
                "style": style,
            }
            return {"type": "metric", "addTooltip": True, "addLegend": False, "metric": metric}
        case "histogram":
            return {"type": "histogram", **legend, **_axes()}


def _axes() -> dict[str, Any]:
    shared = {"show": True, "style": {}, "labels": {"show": True, "truncate": 100}, "title": {}}
    category = {"id": "CategoryAxis-1", "type": "category", "position": "bottom"}
    value = {"id": "ValueAxis-1", "name": "LeftAxis-1", "type": "value", "position": "left"}
    series = {
        "show": True,
        "type": "histogram",
        "mode": "stacked",
        "data": {"label": "Events", "id": "1"},
        "valueAxis": value["id"],
    }
    return {
        "grid": {"categoryLines": False},
        "categoryAxes": [{**category, **shared, "scale": {"type": "linear"}}],
        "valueAxes": [{**value, **shared, "scale": {"type": "linear", "mode": "normal"}}],
        "seriesParams": [series],
        "times": [],
        "addTimeMarker": False,
    }


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    panels, references = [], []
    for i, place in enumerate(_places(dashboard.panels)):
        name = f"panel_{i}"
        panels.append(
            {
                "version": _VERSIONS["dashboard"],
                "gridData": {**place, "i": str(i)},
                "panelIndex": str(i),
                "embeddableConfig": {"title": dashboard.panels[i].title},
                "panelRefName": name,
            }
        )
        target = f"{_PATTERN}-{dashboard.id}-{i}"
        references.append({"name": name, "type": "visualization", "id": target})
    source = {"query": {"language": "kuery", "query": ""}, "filter": []}
    attributes = {
        "title": f"Cloudflare Access: {dashboard.title}",
        "description": dashboard.text,
        "hits": 0,
        "panelsJSON": json.dumps(panels),
        "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}),
        "version": 1,
        "timeRestore": True,
        "timeFrom": "now-7d",
        "timeTo": "now",
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source)},
    }
    return _object("dashboard", f"{_PATTERN}-{dashboard.id}", attributes, references)


def _places(panels: tuple[Panel, ...]) -> list[dict[str, int]]:
    """Return a place for each panel: from left to right, then down."""
    places, left, top, tallest = [], 0, 0, 0
    for panel in panels:
        width, height = _SIZES[panel.kind]
        if left + width > _WIDTH:
            left, top, tallest = 0, top + tallest, 0
        places.append({"x": left, "y": top, "w": width, "h": height})
        left, tallest = left + width, max(tallest, height)
    return places
