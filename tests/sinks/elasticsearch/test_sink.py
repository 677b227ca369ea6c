"""The Elasticsearch sink against a cluster that does what real ones do."""

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from forwarder.core.contracts import WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.sinks.elasticsearch import ElasticsearchConfig, ElasticsearchSink
from forwarder.testing.fake_server import html, saying
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from tests.sinks.fakes.elastic import FakeElastic

AUDIT = "logs-cloudflare_access.audit-default"


@pytest.fixture
async def elastic() -> AsyncIterator[FakeElastic]:
    async with FakeElastic() as elastic:
        yield elastic


def make_sink(*nodes: FakeElastic, **more: Any) -> ElasticsearchSink:
    given = {"urls": [node.url for node in nodes], "api_key": nodes[0].api_key, **more}
    return ElasticsearchSink(ElasticsearchConfig.model_validate(given), sink_context())


async def test_a_batch_written_twice_is_there_once(elastic: FakeElastic) -> None:
    sink = make_sink(elastic)
    results = [await sink.write(make_batch(3)) for _ in range(2)]
    await sink.aclose()

    assert results == [WriteResult(), WriteResult()]
    assert set(elastic.arrived().values()) == {1}
    assert elastic.headers[0]["Content-Encoding"] == "gzip"
    assert elastic.headers[0]["Content-Type"] == "application/x-ndjson"


async def test_single_events_are_put_off_and_rejected(elastic: FakeElastic) -> None:
    elastic.busy = {make_event(1).id}
    events = [make_event(0), make_event(1), make_event(2, body=b'{"clash":"x"}')]
    sink = make_sink(elastic)
    result = await sink.write(batch_of(events))
    again = await sink.write(batch_of(events[:2]))
    await sink.aclose()

    assert result.deferred == {1}
    assert [rejection.offset for rejection in result.rejected] == [2]
    assert again == WriteResult()


async def test_what_the_failure_store_took_is_delivered_and_noted(elastic: FakeElastic) -> None:
    elastic.failure_store = True
    sink = make_sink(elastic)
    result = await sink.write(batch_of([make_event(0, body=b'{"clash":"x"}')]))
    await sink.aclose()

    assert not result.rejected
    assert [note.partition(":")[0] for note in result.notes] == ["failure_store"]


async def test_a_body_that_is_too_large_is_for_the_engine_to_split(elastic: FakeElastic) -> None:
    elastic.largest = 100
    sink = make_sink(elastic)
    with pytest.raises(BatchTooLargeError):
        await sink.write(make_batch(3))
    await sink.aclose()


async def test_a_body_refused_whole_is_for_the_engine_to_bisect(elastic: FakeElastic) -> None:
    text = '{"error":{"type":"parse_exception","reason":"hunter2","caused_by":"x"}}'
    elastic.script.append(saying(400, text))
    sink = make_sink(elastic)
    with pytest.raises(BatchRefusedError, match=r"answered 400: parse_exception$"):
        await sink.write(make_batch(3))
    await sink.aclose()


async def test_throttling_passes_on_how_long_to_wait(elastic: FakeElastic) -> None:
    elastic.script.append(saying(429, "", **{"Retry-After": "7"}))
    sink = make_sink(elastic)
    with pytest.raises(TransientError) as caught:
        await sink.write(make_batch(1))
    await sink.aclose()

    assert caught.value.retry_after == 7.0


async def test_a_page_of_a_balancer_is_no_delivery(elastic: FakeElastic) -> None:
    elastic.script += [html(200), html(502), html(503)]
    sink = make_sink(elastic)
    for _ in range(3):
        with pytest.raises(TransientError):
            await sink.write(make_batch(1))
    await sink.aclose()


async def test_full_disks_hold_the_sink_and_lose_nothing(elastic: FakeElastic) -> None:
    elastic.blocked = "cluster_block_exception"
    sink = make_sink(elastic)
    with pytest.raises(NeedsOperatorError, match="cluster_block_exception"):
        await sink.write(make_batch(1))
    await sink.aclose()


async def test_nothing_is_written_where_no_template_makes_data_streams(
    elastic: FakeElastic,
) -> None:
    elastic.templates.clear()
    sink = make_sink(elastic)
    with pytest.raises(NeedsOperatorError, match="no index template"):
        await sink.open()
    await sink.aclose()

    other = make_sink(elastic, index="siem")
    await other.open()
    await other.aclose()


async def test_a_key_that_may_only_write_is_enough(elastic: FakeElastic) -> None:
    elastic.may_look = False
    sink = make_sink(elastic)
    await sink.open()
    assert await sink.write(make_batch(1)) == WriteResult()
    await sink.aclose()


async def test_another_node_takes_over() -> None:
    async with FakeElastic() as first, FakeElastic() as second:
        sink = make_sink(first, second)
        await first.kill()
        await sink.open()
        await sink.write(make_batch(1))
        await sink.aclose()

        assert len(second.arrived()) == 1


async def test_a_failed_write_goes_to_another_node_next_time() -> None:
    async with FakeElastic() as first, FakeElastic() as second:
        sink = make_sink(first, second)
        await first.go_down()
        with pytest.raises(TransientError):
            await sink.write(make_batch(1))
        await sink.write(make_batch(1))
        await sink.aclose()

        assert len(second.arrived()) == 1


async def test_diagnosis_of_a_cluster_that_is_ready(elastic: FakeElastic) -> None:
    sink = make_sink(elastic)
    await sink.write(make_batch(1))
    found = await sink.diagnose()
    await sink.aclose()

    assert {finding.level for finding in found} == {"ok"}
    assert "Elasticsearch 9.2.0" in found[0].text
    assert [finding.subject for finding in found[1:2]] == [AUDIT]
    assert found[-1].subject == "privileges"


async def test_diagnosis_names_the_missing_template(elastic: FakeElastic) -> None:
    elastic.templates.clear()
    sink = make_sink(elastic)
    found = await sink.diagnose()
    await sink.aclose()

    faults = [finding for finding in found if finding.level == "fault"]
    assert len(faults) == 3
    assert all("template" in finding.text and finding.hint for finding in faults)


async def test_diagnosis_of_a_wrong_key_and_of_a_node_that_is_away(elastic: FakeElastic) -> None:
    sink = make_sink(elastic, api_key="wrong")
    refused = await sink.diagnose()
    await elastic.kill()
    away = await sink.diagnose()
    await sink.aclose()

    assert [finding.level for finding in [*refused, *away]] == ["fault", "fault"]
    assert all(finding.hint for finding in [*refused, *away])


def cloud_id(text: str) -> str:
    return "my-deployment:" + b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("eu.aws.example$abc$def", "https://abc.eu.aws.example:443"),
        ("eu.aws.example:9243$abc$", "https://abc.eu.aws.example:9243"),
    ],
)
def test_a_cloud_id_names_the_node(text: str, url: str) -> None:
    assert ElasticsearchConfig(cloud_id=cloud_id(text)).addresses == (url,)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"cloud_id": "nonsense"},
        {"cloud_id": cloud_id("no dollar")},
        {"cloud_id": cloud_id("$x")},
        {"cloud_id": cloud_id("a$b"), "url": "https://es:9200"},
        {"url": "https://es:9200", "api_key": "k", "bearer_token": "b"},
        {"url": "https://es:9200", "username": "u"},
        {"url": "https://es:9200", "password": "p"},
        {"url": "https://es:9200", "dataset": "With-Dash"},
        {"url": "https://es:9200", "namespace": ""},
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ElasticsearchConfig.model_validate(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"api_key": "k"}, {"Authorization": "ApiKey k"}),
        ({"bearer_token": "t"}, {"Authorization": "Bearer t"}),
        ({"username": "u", "password": "p"}, {"Authorization": "Basic dTpw"}),
    ],
)
def test_who_we_are(given: dict[str, str], expected: dict[str, str]) -> None:
    config = ElasticsearchConfig.model_validate({"url": "https://es:9200", **given})

    assert config.authorization() == expected
