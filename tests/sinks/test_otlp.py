"""The OTLP sink against a receiver that reads protobuf with OpenTelemetry's own library."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from forwarder.core.contracts import Batch, BatchEvent, Sink, WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.sinks.otlp import OtlpConfig, OtlpSink, Records, partial_success
from forwarder.testing.fake_server import html, saying
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.fault_run import deliver_all
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from tests.sinks.fakes.otlp import FakeOtlp, attributes, resource


class Receiver(FakeOtlp):
    @property
    def secrets(self) -> Sequence[str]:
        return (self.token,)

    def sink(self) -> Sink:
        return make_sink(self)


class TestOtlp(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Receiver]:
        async with Receiver() as receiver:
            yield receiver


@pytest.fixture
async def receiver() -> AsyncIterator[FakeOtlp]:
    async with FakeOtlp() as receiver:
        yield receiver


def make_sink(receiver: FakeOtlp, **more: Any) -> OtlpSink:
    given = {"url": receiver.url, "bearer_token": receiver.token, **more}
    return OtlpSink(OtlpConfig.model_validate(given), sink_context())


async def written(receiver: FakeOtlp, batch: Batch, **more: Any) -> WriteResult:
    sink = make_sink(receiver, **more)
    try:
        return await sink.write(batch)
    finally:
        await sink.aclose()


async def test_a_record_says_what_the_event_is(receiver: FakeOtlp) -> None:
    body = orjson.dumps({"ip_address": "192.0.2.1", "country": None, "n": {"at": 7}, "ü": "€"})
    event = make_event(3, body=body)._replace(outcome="failure")
    await written(receiver, batch_of([event]), attributes={"app.n": "n.at"})

    (record,) = receiver.records
    assert receiver.encodings == ["gzip"]
    assert record.time_unix_nano == event.time_us * 1000
    assert record.observed_time_unix_nano == event.seen_us * 1000
    assert (record.severity_number, record.severity_text) == (13, "WARN")
    assert record.event_name == "cloudflare.access_requests"
    assert record.body.string_value == body.decode()
    assert attributes(record) == {
        "event.name": "cloudflare.access_requests",
        "event.outcome": "failure",
        "log.record.uid": event.id,
        "user.name": "ada@example.com",
        "client.address": "192.0.2.1",
        "app.n": "7",
    }


async def test_the_records_of_an_account_share_a_resource(receiver: FakeOtlp) -> None:
    events = [make_event(0), make_event(1, account="other"), make_event(2)]
    await written(receiver, batch_of(events), resource={"service.name": "access", "env": "prod"})

    known = {"service.name": "access", "env": "prod"}
    assert [resource(logs) for logs in receiver.received] == [
        {"cloudflare.account": "acme"} | known,
        {"cloudflare.account": "other"} | known,
    ]
    assert {logs.scope_logs[0].scope.name for logs in receiver.received} == {"forwarder"}
    assert len(receiver.records) == 3


EVENTS = st.builds(
    BatchEvent,
    offset=st.integers(0, 2**40),
    id=st.text("0123456789abcdef", min_size=32, max_size=32),
    stream=st.sampled_from(["access_requests", "scim_updates"]),
    account=st.text(max_size=200),
    time_us=st.integers(-(2**62), 2**62),
    seen_us=st.integers(0, 2**62),
    outcome=st.sampled_from(["success", "failure", "unknown"]),
    user=st.text(max_size=300),
    body=st.one_of(st.binary(max_size=300), st.text(min_size=100, max_size=20_000).map(str.encode)),
)


@given(st.lists(EVENTS, max_size=5))
def test_whatever_is_written_can_be_read(events: list[BatchEvent]) -> None:
    config = OtlpConfig(url="http://otlp")
    request = Records(config, sink_context(media_type="text/plain")).encode(events)
    read = ExportLogsServiceRequest.FromString(request)

    records = {attributes(r)["log.record.uid"]: r for logs in read.resource_logs
               for scope in logs.scope_logs for r in scope.log_records}  # fmt: skip
    for event in {event.id: event for event in events}.values():
        record = records[event.id]
        assert record.body.string_value == event.body.decode("utf-8", "replace")
        assert record.time_unix_nano == min(max(event.time_us * 1000, 0), 2**64 - 1)
        assert attributes(record).get("user.name", "") == event.user


@given(st.integers(0, 2**62), st.text(max_size=300))
def test_a_partial_success_is_read(rejected: int, said: str) -> None:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = rejected
    answer.partial_success.error_message = said

    assert partial_success(answer.SerializeToString()) == (rejected, bool(said))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", (0, False)),
        (b"\x0a\x00", (0, False)),
        (b"{}", (0, False)),
        (b'{"partialSuccess":null}', (0, False)),
        (b' {"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"x"}}', (2, True)),
        (b"\x15\x01\x02\x03\x04\x19\x01\x02\x03\x04\x05\x06\x07\x08", (0, False)),
    ],
)
def test_answers_of_all_kinds_are_understood(body: bytes, found: tuple[int, bool]) -> None:
    assert partial_success(body) == found


@given(st.binary(max_size=60))
def test_an_answer_that_is_none_raises_what_the_sink_expects(body: bytes) -> None:
    try:
        rejected, _ = partial_success(body)
    except (ValueError, TypeError, AttributeError):
        return
    assert rejected >= 0


async def test_a_full_success_with_a_warning_is_noted(receiver: FakeOtlp) -> None:
    receiver.warning = "use the new field for ada@example.com"
    result = await written(receiver, make_batch(2))

    assert [note.partition(":")[0] for note in result.notes] == ["otlp_warning"]
    assert "ada" not in str(result)
    assert not result.rejected


async def test_the_engine_finds_the_records_that_a_receiver_only_counts(
    receiver: FakeOtlp,
) -> None:
    receiver.refused = b'"n":17}'
    outcome = await deliver_all(make_sink(receiver), 300)

    assert outcome.dead == {make_event(17).id}
    assert receiver.arrived().keys() == {make_event(n).id for n in range(300) if n != 17}


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (saying(400, "no"), BatchRefusedError),
        (saying(400, "http: request body too large"), BatchTooLargeError),
        (saying(413), BatchTooLargeError),
        (html(200), TransientError),
        (saying(200, "OK"), TransientError),
        (saying(500), TransientError),
        (saying(404), NeedsOperatorError),
        (saying(415), NeedsOperatorError),
    ],
)
async def test_answers_lead_to_what_the_engine_must_do(
    receiver: FakeOtlp, script: Any, error: type[Exception]
) -> None:
    receiver.script.append(script)
    with pytest.raises(error) as caught:
        await written(receiver, make_batch(2))

    assert type(caught.value) is error


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_is_busy_says_how_long(receiver: FakeOtlp, status: int) -> None:
    receiver.script.append(saying(status, **{"Retry-After": "7"}))
    with pytest.raises(TransientError) as caught:
        await written(receiver, make_batch(1))

    assert caught.value.retry_after == 7.0


async def test_a_batch_that_is_too_large_is_split(receiver: FakeOtlp) -> None:
    receiver.largest = 20_000
    outcome = await deliver_all(make_sink(receiver), 400)

    assert not outcome.dead
    assert receiver.arrived() == {make_event(n).id: 1 for n in range(400)}


async def test_the_whole_address_is_taken_too(receiver: FakeOtlp) -> None:
    await written(receiver, make_batch(1), url=f"{receiver.url}/v1/logs")

    assert len(receiver.records) == 1


async def test_a_wrong_token_is_found_before_the_first_event(receiver: FakeOtlp) -> None:
    sink = make_sink(receiver, bearer_token="wrong")
    with pytest.raises(NeedsOperatorError):
        await sink.open()
    (finding,) = await sink.diagnose()
    await sink.aclose()

    assert finding.level == "fault"
