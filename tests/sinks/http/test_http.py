"""The generic HTTP sink posts what its settings say and believes the status."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from forwarder.core.contracts import Sink
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ConfigError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.sinks.http import HttpSink, HttpSinkConfig
from forwarder.testing.fake_server import half_an_answer, reset, reset_early, saying
from forwarder.testing.fake_sinks import make_batch, sink_context
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from tests.sinks.fakes.webhook import FakeWebhook


class Webhook(FakeWebhook):
    @property
    def secrets(self) -> Sequence[str]:
        return (self.token, "path-secret")

    def sink(self) -> Sink:
        return make_sink(self, url=f"{self.url}/path-secret", health_url=f"{self.url}/health")


class TestHttp(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Webhook]:
        async with Webhook() as webhook:
            yield webhook


@pytest.fixture
async def webhook() -> AsyncIterator[FakeWebhook]:
    async with FakeWebhook() as webhook:
        yield webhook


def make_sink(
    webhook: FakeWebhook, *, media_type: str = "application/json", **more: Any
) -> HttpSink:
    given = {"url": webhook.url, "bearer_token": webhook.token, **more}
    return HttpSink(HttpSinkConfig.model_validate(given), sink_context(media_type=media_type))


async def write(sink: HttpSink, count: int = 2) -> None:
    try:
        await sink.write(make_batch(count))
    finally:
        await sink.aclose()


async def test_lines_and_arrays_say_what_they_are(webhook: FakeWebhook) -> None:
    await write(make_sink(webhook, gzip=False))
    await write(make_sink(webhook, gzip=False, body="array"))
    lines, array = webhook.received

    assert lines[0]["Content-Type"] == "application/x-ndjson"
    assert [orjson.loads(line)["n"] for line in lines[1].splitlines()] == [0, 1]
    assert array[0]["Content-Type"] == "application/json"
    assert [event["n"] for event in orjson.loads(array[1])] == [0, 1]


async def test_the_settings_name_method_headers_and_type(webhook: FakeWebhook) -> None:
    more: dict[str, Any] = {
        "method": "PUT",
        "headers": {"X-Key": "k"},
        "content_type": "application/cloudevents",
    }
    await write(make_sink(webhook, **more))
    headers = webhook.received[0][0]

    assert (headers["X-Key"], headers["Content-Type"]) == ("k", "application/cloudevents")
    assert headers["Content-Encoding"] == "gzip"


async def test_a_header_out_of_a_file_follows_the_file(
    webhook: FakeWebhook, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    sink = make_sink(webhook, headers={"X-Key_file": str(file)})

    for key in ("first", "second key"):
        file.write_text(f"{key}\n")
        await sink.write(make_batch(1))
    await sink.aclose()

    assert [headers["X-Key"] for headers, _ in webhook.received] == ["first", "second key"]


async def test_a_signature_covers_the_body_as_it_is_sent(webhook: FakeWebhook) -> None:
    await write(make_sink(webhook, signature={"secret": "s"}))
    headers, body = webhook.received[0]

    expected = hmac.new(b"s", body, hashlib.sha256).hexdigest()
    assert headers["X-Signature-256"] == f"sha256={expected}"


async def test_a_signature_can_cover_the_time(webhook: FakeWebhook) -> None:
    signature = {
        "secret": "s",
        "algorithm": "sha512",
        "header": "X-Sig",
        "prefix": "v0=",
        "timestamp_header": "X-Time",
    }
    await write(make_sink(webhook, signature=signature))
    headers, body = webhook.received[0]

    signed = headers["X-Time"].encode() + b"." + body
    expected = hmac.new(b"s", signed, hashlib.sha512).hexdigest()
    assert headers["X-Sig"] == f"v0={expected}"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, BatchRefusedError),
        (401, NeedsOperatorError),
        (302, NeedsOperatorError),
        (413, BatchTooLargeError),
        (429, TransientError),
        (503, TransientError),
    ],
)
async def test_what_is_no_success_is_an_error(
    webhook: FakeWebhook, status: int, expected: type[Exception]
) -> None:
    webhook.status = status
    with pytest.raises(expected) as caught:
        await write(make_sink(webhook))

    assert type(caught.value) is expected


@pytest.mark.parametrize("trouble", [reset, reset_early, half_an_answer])
async def test_a_broken_answer_is_an_outage(webhook: FakeWebhook, trouble: Any) -> None:
    webhook.script.append(trouble)
    with pytest.raises(TransientError):
        await write(make_sink(webhook))


async def test_success_may_be_something_else(webhook: FakeWebhook) -> None:
    webhook.status = 202
    await write(make_sink(webhook, success_codes=[202, 409]))
    webhook.status = 409
    await write(make_sink(webhook, success_codes=[202, 409]))
    webhook.status = 200
    with pytest.raises(BatchRefusedError):
        await write(make_sink(webhook, success_codes=[202, 409]))


async def test_how_long_to_wait_is_passed_on(webhook: FakeWebhook) -> None:
    webhook.script.append(saying(503, "", **{"Retry-After": "9"}))
    with pytest.raises(TransientError) as caught:
        await write(make_sink(webhook))

    assert caught.value.retry_after == 9.0


async def test_a_second_address_takes_over(webhook: FakeWebhook) -> None:
    async with FakeWebhook() as second:
        sink = make_sink(webhook, url=None, urls=[webhook.url, second.url])
        await webhook.kill()
        with pytest.raises(TransientError):
            await sink.write(make_batch(1))
        await write(sink)

        assert len(second.arrived()) == 2


async def test_a_token_file_is_read_again_when_it_changes(
    webhook: FakeWebhook, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    more: dict[str, Any] = {"bearer_token": None, "bearer_token_file": str(token)}
    sink = make_sink(webhook, **more)
    with pytest.raises(NeedsOperatorError):
        await sink.write(make_batch(1))
    token.write_text(webhook.token)
    await write(sink)

    assert len(webhook.arrived()) == 2


async def test_diagnosis_needs_an_address_to_ask(webhook: FakeWebhook) -> None:
    without, with_one = make_sink(webhook), make_sink(webhook, health_url=f"{webhook.url}/h")
    levels = [(await sink.diagnose())[0].level for sink in (without, with_one)]
    webhook.locked = True
    fault = (await with_one.diagnose())[0]
    await with_one.aclose()

    assert levels == ["warning", "ok"]
    assert fault.level == "fault"
    assert fault.hint


async def test_text_cannot_be_an_array(webhook: FakeWebhook) -> None:
    with pytest.raises(ConfigError, match="JSON format"):
        make_sink(webhook, body="array", media_type="text/plain")


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"Content-Length": "3"}},
        {"headers": {"two\nlines": "x"}},
        {"headers": {"Host_file": "/run/secrets/host"}},
        {"headers_file": "/run/secrets/headers"},
        {"username": "u"},
        {"username": "u", "password": "p", "bearer_token": "t"},
        {"health_url": "ftp://x"},
        {"signature": {}},
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HttpSinkConfig.model_validate({"url": "https://hook", **given})


async def test_a_header_value_with_a_line_end_asks_for_a_person(webhook: FakeWebhook) -> None:
    with pytest.raises(NeedsOperatorError):
        await write(make_sink(webhook, headers={"X-Key": "a\r\nB: c"}))
