"""The sink for object storage against Azure's emulator and against versitygw."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import AzureStore

from forwarder.core.errors import NeedsOperatorError
from forwarder.sinks.object_store import ObjectStoreSink
from forwarder.testing.destinations import deliver
from forwarder.testing.fake_sinks import batch_of, make_event, sink_context
from tests.integration.conftest import Start
from tests.integration.object_stores.servers import ACCOUNT, KEY, azurite, versitygw
from tests.sinks.object_store.lake import ids_in, query
from tests.sinks.object_store.seaweed import S3Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

EVENTS = [make_event(10 * number) for number in range(1000)]
"""Of three hours."""


@pytest.fixture(scope="module")
def endpoint(start: Start[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from start("Azurite", lambda: azurite(tmp_path_factory.mktemp("azurite")))


@pytest.fixture(scope="module")
def gateway(
    start: Start[tuple[S3Server, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[S3Server, Path]]:
    folder = tmp_path_factory.mktemp("versitygw")
    programs = Path(os.environ.get("GO_PROGRAMS", folder))
    yield from start("versitygw", lambda: versitygw(folder, programs))


def make_sink(**given: Any) -> ObjectStoreSink:
    return ObjectStoreSink(ObjectStoreSink.Config.model_validate(given), sink_context())


def azure(endpoint: str, **more: Any) -> dict[str, Any]:
    keys = {"account_name": ACCOUNT, "account_key": KEY}
    return {"url": "az://lake/access", "endpoint": endpoint, **keys, **more}


def in_azure(endpoint: str) -> dict[str, bytes]:
    store = AzureStore(
        "lake",
        endpoint=endpoint,
        account_name=ACCOUNT,
        account_key=KEY,
        client_options={"allow_http": True},
    )
    names = [one["path"] for one in obstore.list(store).collect()]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


@pytest.mark.parametrize("file_format", ["ndjson", "parquet"])
async def test_events_are_in_azure_once_also_after_a_retry(endpoint: str, file_format: str) -> None:
    sink = make_sink(**azure(endpoint, url=f"az://lake/{file_format}", file_format=file_format))
    await sink.open()
    await deliver(sink, batch_of(EVENTS))
    await deliver(sink, batch_of(EVENTS))
    await sink.aclose()

    objects = {
        name: body for name, body in in_azure(endpoint).items() if name.startswith(file_format)
    }
    found = Counter(one for name, body in objects.items() for one in ids_in(name, body))
    assert found == Counter(event.id for event in EVENTS)
    assert len(objects) == 3


async def test_what_azure_refuses_needs_an_operator(endpoint: str) -> None:
    wrong = azure(endpoint, account_key="d3Jvbmc=")
    missing = azure(endpoint, url="az://missing")

    with pytest.raises(NeedsOperatorError, match="Azure Blob Storage bucket lake answered") as key:
        await make_sink(**wrong).open()
    with pytest.raises(NeedsOperatorError, match="ContainerNotFound"):
        await make_sink(**missing).open()
    with pytest.raises(NeedsOperatorError, match="answered"):
        await make_sink(**missing).write(batch_of(EVENTS[:1]))
    assert "d3Jvbmc=" not in repr(key.value)


@pytest.mark.lengthy
@pytest.mark.parametrize("file_format", ["ndjson", "parquet"])
async def test_duckdb_reads_the_folder_of_versitygw(
    gateway: tuple[S3Server, Path], file_format: str
) -> None:
    server, folder = gateway
    url = f"s3://{server.bucket}/{file_format}"
    sink = make_sink(**server.settings(url=url, file_format=file_format))
    await sink.open()
    await deliver(sink, batch_of(EVENTS))
    await deliver(sink, batch_of(EVENTS))
    await sink.aclose()

    read = {"ndjson": "read_json", "parquet": "read_parquet"}[file_format]
    (found,) = query(
        f"select count(*), count(distinct id), count(distinct hour) "
        f"from {read}('{{folder}}/{file_format}/**/*.*', hive_partitioning = true)",
        folder,
    )
    assert found == (1000, 1000, 3)


@pytest.mark.lengthy
async def test_what_versitygw_refuses_needs_an_operator(gateway: tuple[S3Server, Path]) -> None:
    server, _ = gateway
    for more, said in (
        ({"secret_access_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"access_key_id": "nobody"}, "answered 404"),
        ({"url": "s3://missing"}, "NoSuchBucket"),
        ({"region": "eu-central-1"}, "AuthorizationHeaderMalformed"),
    ):
        with pytest.raises(NeedsOperatorError, match=said):
            await make_sink(**server.settings(**more)).write(batch_of(EVENTS[:1]))
