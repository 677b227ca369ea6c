"""Rules and dashboard ask for what exists, and every alert helps who is woken by it."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from deploy.generate.catalogue import catalogue
from tests.deploy.promql import grouping_of, series_of

FOLDER = Path(__file__).parents[2] / "deploy"
RULES = FOLDER / "prometheus"
SHORT, LONG = RULES / "alerts_test.yaml", RULES / "alerts_days_test.yaml"
RUNBOOK = FOLDER.parent / "docs/operations.md"
TARGET = {"job", "instance"}
"""Labels that Prometheus adds to everything it scrapes."""


def groups_of(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((RULES / f"{name}.yaml").read_text())["groups"]
    return found


def rules_of(name: str) -> list[dict[str, Any]]:
    return [rule for group in groups_of(name) for rule in group["rules"]]


RECORDING, ALERTS = rules_of("recording"), rules_of("alerts")
CASES = [case for path in (SHORT, LONG) for case in yaml.safe_load(path.read_text())["tests"]]
DASHBOARD = json.loads((FOLDER / "grafana/dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = [
    one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"
]
METRICS = catalogue()
EXISTING = {
    series: {*metric.labels, *TARGET, *({"le"} if series.endswith("_bucket") else ())}
    for metric in METRICS
    for series in metric.series
}
RECORDED = {rule["record"] for rule in RECORDING}
OBJECTIVES = [rule["expr"] for rule in RECORDING if rule["record"].startswith("objective:")]
EXPRESSIONS = [*(rule["expr"] for rule in (*RECORDING, *ALERTS)), *QUERIES, *VARIABLES]
LABELS = {label for labels in EXISTING.values() for label in labels} | {"alertname"}


def used() -> set[str]:
    return {name for expression in EXPRESSIONS for name, _ in series_of(expression)}


def test_every_query_asks_for_series_and_labels_that_exist() -> None:
    for expression in EXPRESSIONS:
        found = series_of(expression)

        assert found or "ALERTS" in expression or expression in OBJECTIVES, expression
        for name, labels in found:
            assert name in EXISTING or name in RECORDED, (name, expression)
            assert labels <= EXISTING.get(name, LABELS), (name, expression)
        assert grouping_of(expression) <= LABELS, expression


def test_a_misspelt_series_or_label_would_be_found() -> None:
    text = 'sum by (sinc) (rate(forwarder_sink_delivered_total{sink=~"$sink",kind="a=b"}[5m]))'

    assert series_of(text) == [("forwarder_sink_delivered_total", frozenset({"sink", "kind"}))]
    assert "forwarder_sink_delivered_total" not in EXISTING
    assert grouping_of(text) == {"sinc"}
    assert "sinc" not in LABELS


def test_every_metric_is_shown_or_watched() -> None:
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used()}
    unseen = {metric.name for metric in METRICS if not {*metric.series, metric.name} & bases}

    assert unseen == set()


def test_every_recording_is_used() -> None:
    assert RECORDED <= used()


def test_every_alert_says_what_it_means_and_where_help_is() -> None:
    for rule in ALERTS:
        name, notes = rule["alert"], rule["annotations"]

        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert notes.keys() == {"summary", "description", "runbook_url"}, name
        assert re.fullmatch(
            r"docs/operations\.md#(forwarder[a-z]+|objectives)", notes["runbook_url"]
        ), name
        assert notes["summary"].endswith((".", "}}", "held.")), name
        shown = re.findall(r"\$labels\.(\w+)", notes["summary"] + notes["description"])
        assert set(shown) <= LABELS, name


def test_the_runbook_has_a_heading_for_every_alert() -> None:
    headings = re.findall(r"^#+ +(.+?) *$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    wanted = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in ALERTS}

    assert wanted <= anchors


def test_alerts_that_exist_inhibit_alerts_that_exist() -> None:
    wanted = {
        name
        for rule in yaml.safe_load((RULES / "inhibit_rules.yaml").read_text())["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        for name in matcher.partition("=")[2].strip('~"').split("|")
    }
    alerts = [rule["alert"] for rule in ALERTS]

    assert [name for name in wanted if not any(re.fullmatch(name, one) for one in alerts)] == []


def test_alerts_have_distinct_names() -> None:
    assert max(Counter(rule["alert"] for rule in ALERTS).values()) == 1


def test_every_alert_is_seen_to_fire_and_not_to_fire_by_the_unit_tests() -> None:
    """An alert that does not fire counts only where everything that it asks for is there."""
    cases = [case for case in CASES if "promql_expr_test" in case]
    fired = {
        name
        for case in cases
        for check in case["promql_expr_test"]
        for sample in check["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', str(check["expr"]) + sample["labels"])
    }
    silent = {
        rule["alert"]
        for rule in ALERTS
        for case in cases
        if metrics_behind(rule["expr"]) <= given(case)
        and any(is_silent(check, rule["alert"]) for check in case["promql_expr_test"])
    }

    assert fired == {rule["alert"] for rule in ALERTS}
    assert silent == fired


def metrics_behind(expression: str) -> set[str]:
    """Return the metrics that an expression asks for, also through recordings."""
    found: set[str] = set()
    asked, rules = [expression], {rule["record"]: rule["expr"] for rule in RECORDING}
    while asked:
        names = {name for name, _ in series_of(asked.pop())}
        found |= names - rules.keys()
        asked += [rules.pop(name) for name in names & rules.keys()]
    return found - RECORDED


def given(case: dict[str, Any]) -> set[str]:
    return {series["series"].partition("{")[0] for series in case["input_series"]}


def is_silent(check: dict[str, Any], alert: str) -> bool:
    """Tell whether a check of every firing alert finds this one silent."""
    everything = "group by (alertname) (ALERTS{alertstate=" in check["expr"]
    return everything and all(alert not in sample["labels"] for sample in check["exp_samples"])


def test_the_long_unit_tests_evaluate_every_group_in_its_order() -> None:
    groups = [group["name"] for name in ("recording", "alerts") for group in groups_of(name)]

    assert yaml.safe_load(LONG.read_text())["group_eval_order"] == groups


def test_the_dashboard_has_its_rows() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]

    assert rows == ["Overview", "Objectives", "Streams", "Sinks", "Journal"]


def test_panels_are_told_apart_and_do_not_cover_each_other() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    boxes = [panel["gridPos"] for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    for one, other in combinations(boxes, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart or above


def test_every_panel_explains_itself_and_follows_the_variables() -> None:
    for panel in PANELS:
        title = panel["title"]

        assert panel["description"].endswith("."), title
        assert panel["datasource"]["uid"] == "${datasource}", title
        for target in panel["targets"]:
            for name, _ in series_of(target["expr"]):
                assert f'{name}{{job=~"$job"' in target["expr"], title
