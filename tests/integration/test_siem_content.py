"""What deploy/elastic brings, in a real OpenSearch: it installs, it draws, it finds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from forwarder.testing.samples import ROWS
from tests.content.golden import Row
from tests.content.sigma_rules import ALERTS, RULES, convert
from tests.integration.detection_cases import Arrival, arrivals, deliver, events_of
from tests.integration.opensearch.node import Node, run_node
from tests.integration.saved_objects import FOLDER, drawn, fields, lines_of, panels, search_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

MONITORS = {
    monitor["triggers"][0]["query_level_trigger"]["id"]: monitor
    for monitor in lines_of("opensearch/monitors.ndjson")
}


def install(url: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "SIEM_URL": url}
    script = [FOLDER / "install.sh"]
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(start: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    for node in start("opensearch", lambda: run_node(tmp_path_factory.mktemp("opensearch"))):
        done = install(node.url)
        assert done.returncode == 0, done.stderr
        yield node


def test_the_installer_can_be_run_again(installed: Node) -> None:
    done = install(installed.url)

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert {"installed: ingest pipeline", "installed: index template"} <= set(lines)
    assert len([line for line in lines if "monitor Cloudflare Access" in line]) == len(MONITORS)


async def arrive(node: Node, arrival: Arrival) -> int:
    """Deliver the rows; return the time in milliseconds between the old ones and the others."""
    namespace = arrival.namespace
    if arrival.before:
        await deliver(node, events_of(arrival.before, namespace), namespace)
        await asyncio.sleep(0.01)
    between_ms = int(time.time() * 1000)
    await deliver(node, events_of(arrival.rows, namespace), namespace)
    return between_ms


def run_monitor(node: Node, monitor: dict[str, Any], period_end: int, namespace: str) -> bool:
    search = monitor["inputs"][0]["search"]
    text = orjson.dumps(search["query"]).decode().replace("{{period_end}}", str(period_end))
    index = search["indices"][0].removesuffix("*") + namespace
    answer = node.call("POST", f"/{index}/_search?ignore_unavailable=true", orjson.loads(text))
    return condition_holds(node, monitor, answer)


def condition_holds(node: Node, monitor: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Let the node itself evaluate the trigger's condition."""
    source = monitor["triggers"][0]["query_level_trigger"]["condition"]["script"]["source"]
    # Painless keeps ctx in params here; in a trigger it is a variable.
    script = f"def ctx = params.ctx; return {source};"
    context = {"source": script, "params": {"ctx": {"results": [answer]}}}
    found = node.call("POST", "/_scripts/painless/_execute", {"script": context})
    return {"true": True, "false": False}[str(found["result"])]


def _window_ms(monitor: dict[str, Any]) -> int:
    """Return how far from its end the window of new events begins."""
    ranges = orjson.dumps(monitor).decode().split("{{period_end}}||-")[1:]
    return min(int(each.partition("m")[0]) for each in ranges) * 60_000


@pytest.fixture(scope="module")
def arrived(installed: Node) -> list[tuple[Arrival, int]]:
    """Every golden example, each in data streams of its own."""
    return [(one, asyncio.run(arrive(installed, one))) for one in arrivals()]


def test_a_monitor_fires_on_what_it_must_and_on_nothing_else(
    installed: Node, arrived: list[tuple[Arrival, int]]
) -> None:
    wrong = []
    for arrival, between_ms in arrived:
        monitor = MONITORS[arrival.detection]
        # What came before the others came before the monitor's window.
        end_ms = between_ms + (_window_ms(monitor) if arrival.before else 0)
        if run_monitor(installed, monitor, end_ms, arrival.namespace) != arrival.fires:
            wrong.append((arrival.detection, arrival.name, not arrival.fires))

    assert wrong == []
    assert {one.detection for one, _ in arrived if one.fires} == set(MONITORS)
    assert {one.detection for one, _ in arrived if not one.fires} == set(MONITORS)


async def test_silence_of_the_forwarder_is_found(installed: Node) -> None:
    start = Row("forwarder", {"event": "start", "time": "2026-07-02T15:00:00Z"})
    await deliver(installed, events_of([start], "silence"), "silence")
    monitor = MONITORS["forwarder_gap_or_silence"]

    assert run_monitor(installed, monitor, int(time.time() * 1000), "silence")


def test_a_query_finds_what_it_must_and_nothing_else(
    installed: Node, arrived: list[tuple[Arrival, int]]
) -> None:
    """Kibana cannot run here: a rule of one filter is run as the query that it is.

    So is each Sigma rule that counts nothing, in Lucene as pySigma writes it.
    """
    elastic = {
        rule["rule_id"].partition("-")[2]: rule["query"]
        for rule in lines_of("elasticsearch/rules.ndjson")
        if rule["type"] == "query"
    }
    # Sigma compares without case; on a keyword Lucene does not, and the group is one of Admins.
    plain = {name for name in ALERTS if "correlation" not in RULES[name]} - {"group_admin_added"}
    sigma = {name: convert(name, "lucene") for name in plain}
    wrong = []
    for arrival, _ in arrived:
        for queries in (elastic, sigma):
            query = queries.get(arrival.detection)
            if query and finds(installed, query, arrival.namespace) != arrival.fires:
                wrong.append((query, arrival.name, not arrival.fires))

    assert wrong == []
    assert len(elastic) == 3
    assert set(elastic) - set(sigma) == {"group_admin_added"}


def finds(node: Node, query: str, namespace: str) -> bool:
    search = {"query": {"query_string": {"query": query, "analyze_wildcard": True}}}
    answer: Any = node.call("POST", f"/logs-cloudflare_access.*-{namespace}/_search", search)
    return bool(answer["hits"]["total"]["value"] > 0)


@pytest.fixture(scope="module")
def golden(installed: Node) -> Node:
    """Every sample row, and every golden row that a detection finds."""
    found = [row for one in arrivals() if one.fires for row in one.rows]
    samples = [Row(stream, row) for stream, rows in ROWS.items() for row in rows.values()]
    events = events_of([*found, *samples], "golden")
    asyncio.run(deliver(installed, events, "golden"))
    return installed


async def test_every_panel_has_something_to_draw(golden: Node) -> None:
    empty = []
    for name, query, state in panels():
        path = "/logs-cloudflare_access.*-golden/_search"
        answer = golden.call("POST", path, search_of(query, state))
        if not drawn(answer, state):
            empty.append(name)

    assert empty == []


async def test_every_field_is_written_and_mapped(golden: Node) -> None:
    answer: Any = golden.call("GET", "/logs-cloudflare_access.*-golden/_field_caps?fields=*")
    usable = {
        name
        for name, types in answer["fields"].items()
        if all(each["searchable"] and each["aggregatable"] for each in types.values())
    }

    assert sorted(fields() - usable) == []
    # Only one type for each field, over all three data streams.
    assert [name for name in sorted(fields()) if len(answer["fields"][name]) > 1] == []


@pytest.mark.parametrize("folder", ["elasticsearch", "opensearch"])
def test_roles_name_the_data_streams_only(folder: str) -> None:
    for path in Path(FOLDER / folder).glob("*-role.json"):
        role = orjson.loads(path.read_bytes())
        (index,) = role.get("indices") or role["index_permissions"]
        assert index.get("names") or index["index_patterns"] == ["logs-cloudflare_access.*-*"]
