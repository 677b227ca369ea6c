"""What deploy/elastic brings, in a real OpenSearch: it installs, it draws, it finds."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from forwarder.core.contracts import BatchEvent
from forwarder.sinks.elasticsearch import ElasticsearchConfig, ElasticsearchSink
from forwarder.testing.fake_sinks import batch_of, sink_context
from forwarder.testing.samples import ROWS
from tests.integration.detection_cases import MATCHING, SILENCE, SILENT, Case, events_of
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


async def deliver(node: Node, events: list[BatchEvent], namespace: str) -> None:
    config = ElasticsearchConfig.model_validate({"url": node.url, "namespace": namespace})
    sink = ElasticsearchSink(config, sink_context())
    result = await sink.write(batch_of(events))
    await sink.aclose()
    assert result.rejected == ()
    node.call("POST", f"/logs-cloudflare_access.*-{namespace}/_refresh")


def test_the_installer_can_be_run_again(installed: Node) -> None:
    done = install(installed.url)

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert {"installed: ingest pipeline", "installed: index template"} <= set(lines)
    assert len([line for line in lines if "monitor Cloudflare Access" in line]) == len(MONITORS)


async def fires(node: Node, detection: str, case: Case, namespace: str) -> bool:
    """Deliver rows, run the monitor's search as the plugin would, and ask Painless."""
    await deliver(node, events_of(case.before, namespace), namespace) if case.before else None
    await asyncio.sleep(0.01)
    now_ms = int(time.time() * 1000)
    await deliver(node, events_of(case.rows, namespace), namespace)
    monitor = MONITORS[detection]
    # What came before the window of the monitor came before now.
    window_ms = _window_ms(monitor) if case.before else 0
    return run_monitor(node, monitor, now_ms + window_ms, namespace)


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


@pytest.mark.parametrize("detection", MONITORS)
async def test_a_monitor_fires_for_what_it_is_there_for(installed: Node, detection: str) -> None:
    namespace = f"match_{detection}"

    assert await fires(installed, detection, MATCHING[detection], namespace)


@pytest.mark.parametrize("detection", MONITORS)
async def test_a_monitor_is_silent_otherwise(installed: Node, detection: str) -> None:
    namespace = f"silent_{detection}"

    assert not await fires(installed, detection, SILENT[detection], namespace)


async def test_silence_of_the_forwarder_is_found(installed: Node) -> None:
    assert await fires(installed, "forwarder_gap_or_silence", SILENCE, "silence")


def test_every_detection_has_rows() -> None:
    rules = {rule["rule_id"].partition("-")[2] for rule in lines_of("elasticsearch/rules.ndjson")}

    assert set(MONITORS) == rules == set(MATCHING) == set(SILENT)


@pytest.fixture(scope="module")
def golden(installed: Node) -> Node:
    """Every sample row, and every row that a detection finds."""
    found = [case.rows for case in MATCHING.values()]
    samples = [tuple(rows.values()) for rows in ROWS.values()]
    events = events_of(_flat([*found, *samples]), "golden")
    asyncio.run(deliver(installed, events, "golden"))
    return installed


def _flat(lists: Iterable[Iterable[Any]]) -> list[Any]:
    return [one for each in lists for one in each]


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


@pytest.mark.parametrize("side", ["match", "silent"])
async def test_the_filters_of_elastic_rules_find_the_same(installed: Node, side: str) -> None:
    """Kibana cannot run here; a rule of one filter is run as the query that it is."""
    wrong = []
    for rule in lines_of("elasticsearch/rules.ndjson"):
        if rule["type"] != "query":
            continue
        detection = rule["rule_id"].partition("-")[2]
        case = {"match": MATCHING, "silent": SILENT}[side][detection]
        namespace = f"rule_{side}_{detection}"
        await deliver(installed, events_of(case.rows, namespace), namespace)
        query = {"query": {"query_string": {"query": rule["query"]}}}
        index = rule["index"][0].removesuffix("*") + namespace
        answer: Any = installed.call("POST", f"/{index}/_search", query)
        if (answer["hits"]["total"]["value"] > 0) != (side == "match"):
            wrong.append(detection)

    assert wrong == []


@pytest.mark.parametrize("folder", ["elasticsearch", "opensearch"])
def test_roles_name_the_data_streams_only(folder: str) -> None:
    for path in Path(FOLDER / folder).glob("*-role.json"):
        role = orjson.loads(path.read_bytes())
        (index,) = role.get("indices") or role["index_permissions"]
        assert index.get("names") or index["index_patterns"] == ["logs-cloudflare_access.*-*"]
