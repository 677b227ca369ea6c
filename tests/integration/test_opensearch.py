"""The elasticsearch sink against a real OpenSearch."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from forwarder.core.contracts import WriteResult
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.elasticsearch import ElasticsearchConfig, ElasticsearchSink
from forwarder.testing.destinations import reopened
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from tests.integration.opensearch.node import Node, run_node

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

FILES = Path(__file__).parents[2] / "deploy" / "elastic" / "opensearch"


@pytest.fixture(scope="module")
def node(start: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from start("opensearch", lambda: run_node(tmp_path_factory.mktemp("opensearch")))


@pytest.fixture
def templates(node: Node) -> Iterator[Node]:
    """Put our template there; take the data streams away at the end."""
    pipeline, template = (
        orjson.loads((FILES / name).read_bytes())
        for name in ("ingest-pipeline.json", "index-template.json")
    )
    node.call("PUT", "/_ingest/pipeline/logs-cloudflare_access", pipeline)
    node.call("PUT", "/_index_template/ours", template)
    yield node
    node.call("DELETE", "/_data_stream/*")
    node.call("DELETE", "/_index_template/ours")


def make_sink(node: Node, **more: Any) -> ElasticsearchSink:
    config = ElasticsearchConfig.model_validate({"url": node.url, **more})
    return ElasticsearchSink(config, sink_context())


def audit(namespace: str) -> str:
    return f"logs-cloudflare_access.audit-{namespace}"


def found(node: Node, name: str) -> list[dict[str, Any]]:
    """Return all documents that a search sees."""
    node.call("POST", f"/{name}/_refresh")
    answer: Any = node.call("GET", f"/{name}/_search?size=10000")
    return list(answer["hits"]["hits"])


async def test_without_a_template_the_sink_is_held(node: Node) -> None:
    sink = make_sink(node)
    with pytest.raises(NeedsOperatorError, match="no index template"):
        await sink.open()
    findings = await sink.diagnose()
    await sink.aclose()

    assert findings[0].text.startswith("OpenSearch 2.")
    assert [finding.level for finding in findings[1:]] == ["fault"] * 3


async def test_events_arrive_in_a_data_stream_and_repeats_do_not(templates: Node) -> None:
    sink = make_sink(templates, namespace="repeats")
    await sink.open()
    results = [await sink.write(make_batch(500)) for _ in range(2)]
    findings = await sink.diagnose()
    await sink.aclose()

    assert results == [WriteResult(), WriteResult()]
    documents = found(templates, audit("repeats"))
    assert {hit["_id"] for hit in documents} == {make_event(i).id for i in range(500)}
    assert documents[0]["_index"].startswith(".ds-")
    assert {finding.level for finding in findings} == {"ok"}


async def test_events_say_when_they_came_and_what_is_unknown_is_found(templates: Node) -> None:
    """The forwarder delivers late rows, too; rules go by ``event.ingested``."""
    sink = make_sink(templates, namespace="ingested")
    body = b'{"@timestamp":"2026-01-01T00:00:00Z","cloudflare":{"unmapped":{"device":{"os":"x1"}}}}'
    await sink.write(batch_of([make_event(0, body=body)]))
    await sink.aclose()

    (document,) = found(templates, audit("ingested"))
    query = "cloudflare.unmapped.device.os:x1"
    answer: Any = templates.call("GET", f"/{audit('ingested')}/_search?q={query}")
    assert document["_source"]["event"]["ingested"] > "2026-01-01T00:00:01"
    assert answer["hits"]["total"]["value"] == 1


async def test_after_a_rollover_a_repeat_is_there_twice(templates: Node) -> None:
    """Ids are unique within one backing index only; the documentation says so."""
    sink = make_sink(templates, namespace="rollover")
    await sink.write(make_batch(2))
    templates.call("POST", f"/{audit('rollover')}/_rollover")
    await sink.write(make_batch(2))
    await sink.aclose()

    assert len(found(templates, audit("rollover"))) == 4


async def test_a_mapping_conflict_rejects_one_event_without_its_value(templates: Node) -> None:
    events = [
        make_event(0, body=b'{"client":{"ip":"192.0.2.1"}}'),
        make_event(1, body=b'{"client":"no object, and hunter2"}'),
        make_event(2, body=b'{"event":{"created":"hunter2"}}'),
        make_event(3, body=b'{"client":{"ip":"192.0.2.2"}}'),
    ]
    sink = make_sink(templates, namespace="conflict")
    result = await sink.write(batch_of(events))
    await sink.aclose()

    assert [rejection.offset for rejection in result.rejected] == [1, 2]
    assert "event.created" in result.rejected[1].reason
    assert not [one for one in result.rejected if "hunter2" in one.reason]
    assert len(found(templates, audit("conflict"))) == 2


async def test_each_log_has_its_own_data_stream(templates: Node) -> None:
    sink = make_sink(templates, namespace="logs")
    streams = ("access_requests", "scim_updates", "forwarder")
    await sink.write(batch_of([make_event(i, stream=s) for i, s in enumerate(streams)]))
    await sink.aclose()
    answer: Any = templates.call("GET", "/_data_stream/logs-cloudflare_access.*-logs")

    names = {stream["name"].split(".")[1] for stream in answer["data_streams"]}
    assert names == {"audit-logs", "scim-logs", "forwarder-logs"}


async def test_a_body_may_be_plain_or_compressed(templates: Node) -> None:
    for gzip in (True, False):
        sink = make_sink(templates, namespace=f"gzip_{gzip}".lower(), gzip=gzip)
        assert await sink.write(make_batch(10)) == WriteResult()
        await sink.aclose()


async def test_a_node_that_refuses_writes_holds_the_sink(templates: Node) -> None:
    sink = make_sink(templates, namespace="blocked")
    await sink.write(make_batch(1))
    block = {"index.blocks.write": True}
    templates.call("PUT", f"/{audit('blocked')}/_settings", block)
    with pytest.raises(NeedsOperatorError, match="cluster_block_exception"):
        await sink.write(make_batch(1, first_offset=1))
    templates.call("PUT", f"/{audit('blocked')}/_settings", {"index.blocks.write": False})
    assert await sink.write(make_batch(1, first_offset=1)) == WriteResult()
    await sink.aclose()


async def test_a_crash_and_a_restart_lose_nothing_and_double_nothing(templates: Node) -> None:
    sink = make_sink(templates, namespace="restart")
    await sink.write(make_batch(200))
    templates.kill()
    with pytest.raises(TransientError):
        await sink.write(make_batch(300))
    with pytest.raises(TransientError):
        await sink.open()
    await asyncio.to_thread(templates.start)
    await reopened(sink)
    await sink.write(make_batch(300))
    await sink.aclose()

    identities = [hit["_id"] for hit in found(templates, audit("restart"))]
    assert sorted(identities) == sorted(make_event(i).id for i in range(300))
