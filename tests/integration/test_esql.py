"""Elastic's rules in ES|QL, in a real Elasticsearch: each fires on what it must, and no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from forwarder.core.contracts import BatchEvent
from tests.integration.detection_cases import arrivals, deliver, events_of
from tests.integration.elasticsearch.node import run_elasticsearch
from tests.integration.opensearch.node import Node
from tests.integration.saved_objects import FOLDER, lines_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

RULES = {
    rule["rule_id"].partition("-")[2]: rule
    for rule in lines_of("elasticsearch/rules.ndjson")
    if rule["type"] == "esql"
}


@pytest.fixture(scope="module")
def node(start: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("elasticsearch")
    for node in start("elasticsearch", lambda: run_elasticsearch(folder)):
        template = orjson.loads((FOLDER / "elasticsearch/index-template.json").read_bytes())
        # This node has neither ILM nor the processors of the pipeline; see elasticsearch/node.py.
        for key in ("index.lifecycle.name", "index.final_pipeline"):
            del template["template"]["settings"][key]
        node.call("PUT", "/_index_template/ours", template)
        yield node


def test_a_rule_fires_on_what_it_must_and_on_nothing_else(node: Node) -> None:
    examples = [one for one in arrivals() if one.detection in RULES]
    for one in examples:
        events = [stamped(event) for event in events_of(one.rows, one.namespace)]
        asyncio.run(deliver(node, events, one.namespace))
    wrong = [
        (one.detection, one.name, not one.fires)
        for one in examples
        if found(node, RULES[one.detection], one.namespace) != one.fires
    ]

    assert wrong == []
    assert {one.detection for one in examples if one.fires} == set(RULES)


def stamped(event: BatchEvent) -> BatchEvent:
    """Return an event as the pipeline would leave it: with the time of its arrival."""
    body = orjson.loads(event.body)
    body["event"]["ingested"] = int(time.time() * 1000)
    return event._replace(body=orjson.dumps(body))


def found(node: Node, rule: dict[str, Any], namespace: str) -> bool:
    """Run a rule's query as Kibana does, with a filter by the time of arrival."""
    source, _, rest = rule["query"].partition("\n")
    since = {"range": {"event.ingested": {"gte": rule["from"], "lte": rule["to"]}}}
    query = f"{source.removesuffix('*')}{namespace}\n{rest}"
    answer: Any = node.call("POST", "/_query", {"query": query, "filter": since})
    return bool(answer["values"])
