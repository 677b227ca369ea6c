"""The fake cluster does what Elasticsearch and OpenSearch do with bulk requests."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from tests.sinks.fakes.elastic import FakeElastic

AUDIT = "logs-cloudflare_access.audit-default"
DOCUMENT = {"@timestamp": "2026-01-01T00:00:00Z"}


@pytest.fixture
async def elastic() -> AsyncIterator[FakeElastic]:
    async with FakeElastic() as elastic:
        yield elastic


async def bulk(elastic: FakeElastic, *documents: tuple[str, dict[str, Any]]) -> list[Any]:
    body = b"".join(
        orjson.dumps({"create": {"_index": AUDIT, "_id": identity}})
        + b"\n"
        + orjson.dumps(document)
        + b"\n"
        for identity, document in documents
    )
    headers = {"Authorization": f"ApiKey {elastic.api_key}"}
    async with aiohttp.request(
        "POST", f"{elastic.url}/_bulk", data=body, headers=headers
    ) as answer:
        return [item["create"] for item in (await answer.json())["items"]]


def outcome(item: Any) -> tuple[int, str | None]:
    return item["status"], item.get("error", {}).get("type")


async def test_a_document_is_created_once_and_a_repeat_is_a_conflict(elastic: FakeElastic) -> None:
    items = await bulk(elastic, ("a", DOCUMENT), ("a", DOCUMENT))

    conflict = (409, "version_conflict_engine_exception")
    assert [outcome(item) for item in items] == [(201, None), conflict]
    assert items[0]["_index"] == f".ds-{AUDIT}-000001"


async def test_ids_are_unique_within_one_backing_index_only(elastic: FakeElastic) -> None:
    await bulk(elastic, ("a", DOCUMENT))
    elastic.rollover(AUDIT)
    again = await bulk(elastic, ("a", DOCUMENT))

    assert outcome(again[0]) == (201, None)
    assert elastic.arrived()["a"] == 2


async def test_a_document_without_time_does_not_fit_a_data_stream(elastic: FakeElastic) -> None:
    assert outcome((await bulk(elastic, ("a", {})))[0]) == (400, "illegal_argument_exception")


async def test_a_mapping_conflict_quotes_the_value_or_goes_to_the_failure_store(
    elastic: FakeElastic,
) -> None:
    clash = DOCUMENT | {"clash": "not-an-ip"}
    refused = await bulk(elastic, ("a", clash))
    elastic.failure_store = True
    stored = await bulk(elastic, ("a", clash))

    assert outcome(refused[0]) == (400, "document_parsing_exception")
    assert "not-an-ip" in refused[0]["error"]["reason"]
    assert (stored[0]["status"], stored[0]["failure_store"]) == (201, "used")


async def test_a_busy_node_puts_off_single_documents(elastic: FakeElastic) -> None:
    elastic.busy = {"a"}
    items = await bulk(elastic, ("a", DOCUMENT), ("b", DOCUMENT))

    assert [item["status"] for item in items] == [429, 201]
