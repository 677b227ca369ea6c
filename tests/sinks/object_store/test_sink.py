"""The sink against an S3 service that checks signatures: contract, names, errors, rotation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from forwarder.core.contracts import Batch, Sink, WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.sinks.object_store import ObjectStoreSink
from forwarder.testing.destinations import assert_clean, deliver
from forwarder.testing.fake_server import Script, reset, silence
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from tests.sinks.fakes.s3 import FakeS3, error
from tests.sinks.object_store.lake import query

HOUR = 3600
WITHOUT_LOGIN = '{"disable_oauth":true,"client_email":"a","private_key":"k","private_key_id":"1"}'


class Lake(FakeS3):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._settings = settings

    def sink(self) -> Sink:
        return make_sink(self, **self._settings)


def make_sink(lake: FakeS3, **settings: Any) -> ObjectStoreSink:
    given = {
        "url": f"s3://{lake.bucket}/access",
        "endpoint": lake.url,
        "region": "us-east-1",
        "access_key_id": lake.key_id,
        "secret_access_key": lake.secret,
        **settings,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return ObjectStoreSink(ObjectStoreSink.Config.model_validate(given), sink_context())


class TestLines(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Lake]:
        async with Lake() as lake:
            yield lake


class TestParquet(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Lake]:
        async with Lake(file_format="parquet") as lake:
            yield lake


@pytest.fixture
async def lake() -> AsyncIterator[Lake]:
    async with Lake() as lake:
        yield lake


async def written(lake: Lake, *batches: Batch, **settings: Any) -> list[WriteResult]:
    sink = make_sink(lake, **settings)
    try:
        return [await sink.write(batch) for batch in batches]
    finally:
        await sink.aclose()


async def test_names_say_stream_account_hour_and_times(lake: Lake) -> None:
    events = [
        make_event(0),
        make_event(30),
        make_event(HOUR),
        make_event(1, stream="forwarder", account=""),
        make_event(2, account="a/b ü"),
    ]
    await written(lake, batch_of(events))

    assert [name[:-28] for name in sorted(lake.objects)] == [
        (
            "access/stream=access_requests/account=a%2Fb%20%C3%BC/date=2026-01-01/hour=00/"
            "20260101T000002-20260101T000002-"
        ),
        (
            "access/stream=access_requests/account=acme/date=2026-01-01/hour=00/"
            "20260101T000000-20260101T000030-"
        ),
        (
            "access/stream=access_requests/account=acme/date=2026-01-01/hour=01/"
            "20260101T010000-20260101T010000-"
        ),
        (
            "access/stream=forwarder/account=none/date=2026-01-01/hour=00/"
            "20260101T000001-20260101T000001-"
        ),
    ]
    assert {name[-8:] for name in lake.objects} == {".json.gz"}
    assert set(lake.types.values()) == {"application/x-ndjson"}


async def test_a_batch_that_is_written_again_overwrites_itself(lake: Lake) -> None:
    await written(lake, make_batch(100), make_batch(100))

    assert len(lake.puts) == 2
    assert len(lake.objects) == 1
    assert not lake.different


async def test_other_events_and_other_bytes_have_other_names(lake: Lake) -> None:
    event = make_event(0)
    same_text = [
        event._replace(body=b"x"),
        make_event(7)._replace(time_us=event.time_us, body=b"x"),
    ]
    await written(lake, *(batch_of([one]) for one in [event, *same_text]))

    assert len(lake.objects) == 3


async def test_events_are_in_the_order_of_time(lake: Lake) -> None:
    await written(lake, batch_of([make_event(n) for n in (5, 1, 9, 3)]), compression="none")

    (body,) = lake.objects.values()
    assert body.splitlines() == [make_event(n).body for n in (1, 3, 5, 9)]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_duckdb_reads_lines_with_partitions(
    lake: Lake, tmp_path: Path, compression: str
) -> None:
    events = [make_event(n * 600, account=f"a{n % 2}") for n in range(300)]
    await written(lake, batch_of(events), compression=compression)
    lake.save(tmp_path)

    found = query(
        "select account, date, count(distinct id) from read_json('{folder}/**/*.json*', "
        "hive_partitioning = true) group by all order by all",
        tmp_path,
    )
    days = [(str(day), count) for _, day, count in found]
    assert days == [("2026-01-01", 72), ("2026-01-02", 72), ("2026-01-03", 6)] * 2
    assert [account for account, _, _ in found] == ["a0"] * 3 + ["a1"] * 3


async def test_flat_names_have_no_folders(lake: Lake) -> None:
    await written(lake, make_batch(2), layout="flat", url="s3://lake")

    (name,) = lake.objects
    assert name.startswith("access_requests.acme.2026-01-01T00.20260101T000000-20260101T000001-")


async def test_a_large_batch_never_holds_the_loop(lake: Lake) -> None:
    body = b'{"id":"%s","text":"' + b"abc " * 300 + b'"}'
    events = [make_event(n, body=body % b"i%d" % n) for n in range(20_000)]
    sink = make_sink(lake, file_format="parquet")
    writing = asyncio.create_task(sink.write(batch_of(events)))
    longest, loop = 0.0, asyncio.get_running_loop()
    began = loop.time()
    while not writing.done():
        started = loop.time()
        await asyncio.sleep(0.001)
        longest = max(longest, loop.time() - started)
    await writing

    # Packing on the loop would be one turn of nearly the whole time.
    assert longest < (loop.time() - began) / 2


async def test_half_of_several_objects_comes_again_whole(lake: Lake) -> None:
    events = [make_event(n * HOUR) for n in range(6)]
    sink = make_sink(lake)

    async def broken(request: web.Request) -> web.StreamResponse:
        await request.read()
        return error(503, "SlowDown")

    lake.script.extend([broken])
    with pytest.raises(TransientError):
        await sink.write(batch_of(events))
    await deliver(sink, batch_of(events))

    assert len(lake.objects) == 6
    assert not lake.different


def answering(status: int, code: str) -> Script:
    async def script(request: web.Request) -> web.StreamResponse:
        await request.read()
        return error(status, code)

    return script


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", TransientError),
        (500, "InternalError", TransientError),
        (409, "OperationAborted", TransientError),
        (400, "RequestTimeout", TransientError),
        (404, "NoSuchBucket", NeedsOperatorError),
        (403, "AccessDenied", NeedsOperatorError),
        (403, "RequestTimeTooSkewed", NeedsOperatorError),
        (400, "ExpiredToken", NeedsOperatorError),
        (400, "AuthorizationHeaderMalformed", NeedsOperatorError),
        (301, "PermanentRedirect", NeedsOperatorError),
        (413, "EntityTooLarge", BatchTooLargeError),
        (400, "MalformedBody", BatchRefusedError),
    ],
)
async def test_each_answer_has_its_error(
    lake: Lake, status: int, code: str, kind: type[ForwarderError]
) -> None:
    sink, batch = make_sink(lake), make_batch(3)
    lake.script.append(answering(status, code))

    with pytest.raises(kind) as caught:
        await sink.write(batch)

    assert type(caught.value) is kind
    assert str(caught.value).startswith("S3 bucket lake answered")
    assert_clean(lake, sink, caught.value, make_batch(3))
    await deliver(sink, make_batch(3))


async def test_silence_and_resets_are_outages(lake: Lake) -> None:
    sink = make_sink(lake, response_timeout="300ms")
    lake.script.extend([silence, reset])
    with pytest.raises(TransientError, match="did not answer in time"):
        await sink.write(make_batch(3))
    with pytest.raises(TransientError, match="cannot be reached"):
        await sink.write(make_batch(3))
    await sink.aclose()

    assert lake.deliveries == 2


async def test_a_key_that_may_write_and_not_list_opens(lake: Lake) -> None:
    lake.may_list = False
    sink = make_sink(lake)
    await sink.open()
    await deliver(sink, make_batch(3))
    await sink.aclose()

    assert len(lake.objects) == 1


async def test_a_missing_bucket_needs_an_operator(lake: Lake) -> None:
    sink = make_sink(lake, url="s3://other")

    with pytest.raises(NeedsOperatorError, match="S3 bucket other answered NoSuchBucket") as caught:
        await sink.open()
    assert "create the bucket" in caught.value.hint


async def test_replaced_keys_serve_the_next_write(lake: Lake, tmp_path: Path) -> None:
    key, secret = tmp_path / "key", tmp_path / "secret"
    key.write_text(lake.key_id)
    secret.write_text(lake.secret)
    sink = make_sink(
        lake,
        access_key_id=None,
        secret_access_key=None,
        access_key_id_file=key,
        secret_access_key_file=secret,
    )
    await deliver(sink, make_batch(2))
    lake.key_id, lake.secret = "AKIANEW", "another-secret"
    with pytest.raises(NeedsOperatorError):
        await sink.write(make_batch(2, first_offset=10))
    key.write_text(lake.key_id)
    secret.write_text(lake.secret)
    await deliver(sink, make_batch(2, first_offset=10))
    await sink.aclose()

    assert len(lake.arrived()) == 4


async def test_keys_of_the_environment_serve_when_the_settings_have_none(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", lake.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", lake.secret)
    await written(lake, make_batch(2), access_key_id=None, secret_access_key=None)

    assert len(lake.arrived()) == 2


async def test_check_finds_what_is_wrong(lake: Lake) -> None:
    (good,) = await make_sink(lake).diagnose()
    (bad,) = await make_sink(lake, secret_access_key="wrong").diagnose()

    assert (good.level, good.subject) == ("ok", "S3 bucket lake")
    assert (bad.level, bad.hint[:20]) == ("fault", "check the secret key")
    assert not lake.objects


async def test_what_is_no_json_object_becomes_a_dead_letter_of_ocsf_parquet(lake: Lake) -> None:
    context = replace(sink_context(), format="ocsf")
    config = make_sink(lake, file_format="parquet")._config  # noqa: SLF001 - for another context
    sink = ObjectStoreSink(config, context)
    good = make_event(0, body=b'{"class_uid":3002,"metadata":{"uid":"a"}}')
    result = await sink.write(
        batch_of([good, make_event(1, body=b"[1]"), make_event(2, body=b"x")])
    )

    assert [(one.offset, one.expected) for one in result.rejected] == [(1, False), (2, False)]
    assert len(lake.objects) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "az://lake", "account_name": "acme", "account_key": "a2V5"}, "Azure Blob Storage"),
        ({"url": "az://lake", "account_name": "acme", "sas_token": "sv=1&sig=a"}, "Azure Blob"),
        ({"url": "gs://lake", "service_account_key": WITHOUT_LOGIN}, "Google Cloud Storage"),
    ],
)
async def test_each_service_has_its_own_client(
    lake: Lake, given: dict[str, Any], said: str
) -> None:
    """What they sign is none of S3's, so this service refuses it."""
    config = ObjectStoreSink.Config.model_validate({**given, "endpoint": lake.url})
    sink = ObjectStoreSink(config, sink_context())

    with pytest.raises(NeedsOperatorError, match=f"{said}.* answered 403"):
        await sink.write(make_batch(1))
    assert lake.deliveries == 1


async def test_a_key_that_cannot_be_read_needs_an_operator() -> None:
    given = {"url": "gs://lake", "service_account_key": "n0-json"}
    sink = ObjectStoreSink(ObjectStoreSink.Config.model_validate(given), sink_context())

    with pytest.raises(NeedsOperatorError, match="the log-in or ca_file cannot be used") as caught:
        await sink.open()
    assert "n0-json" not in repr(caught.value)
