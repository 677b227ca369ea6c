"""The sink against SeaweedFS, and DuckDB over what is in the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forwarder.core.errors import NeedsOperatorError
from forwarder.sinks.object_store import ObjectStoreSink
from forwarder.testing.destinations import deliver
from forwarder.testing.fake_sinks import batch_of, make_event, sink_context
from tests.sinks.object_store.lake import query
from tests.sinks.object_store.seaweed import PROGRAM, S3Server, seaweed

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="no wheel for this platform")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


def make_sink(server: S3Server, **more: Any) -> ObjectStoreSink:
    given = server.settings(**more)
    return ObjectStoreSink(ObjectStoreSink.Config.model_validate(given), sink_context())


@pytest.mark.parametrize("file_format", ["ndjson", "parquet"])
async def test_duckdb_counts_every_event_in_the_bucket(
    server: S3Server, tmp_path: Path, file_format: str
) -> None:
    sink = make_sink(server, url=f"s3://lake/{file_format}", file_format=file_format)
    await sink.open()
    for first in range(0, 3000, 1000):
        # Ten seconds apart: several hours, so several objects a batch.
        events = [make_event(10 * n) for n in range(first, first + 1000)]
        await deliver(sink, batch_of(events))
        await deliver(sink, batch_of(events))
    await sink.aclose()
    for name, body in server.objects().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(body)

    read = {"ndjson": "read_json", "parquet": "read_parquet"}[file_format]
    (found,) = query(
        f"select count(*), count(distinct id), count(distinct hour) "
        f"from {read}('{{folder}}/{file_format}/**/*.*', hive_partitioning = true)",
        tmp_path,
    )
    assert found == (3000, 3000, 9)


async def test_wrong_keys_and_missing_permissions_need_an_operator(server: S3Server) -> None:
    with pytest.raises(NeedsOperatorError, match="SignatureDoesNotMatch"):
        await make_sink(server, secret_access_key="wrong").open()
    with pytest.raises(NeedsOperatorError, match="AccessDenied"):
        await make_sink(server, url="s3://other").write(batch_of([make_event(0)]))
