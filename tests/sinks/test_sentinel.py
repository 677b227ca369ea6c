"""The sink for Sentinel against an Entra and a data collection rule that judge as Azure does."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from forwarder.core.contracts import Batch, Sink, WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ConfigError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.formats.asim import AsimFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.formats.templates import FormatConfig
from forwarder.sinks.sentinel import SentinelConfig, SentinelSink, parts_of
from forwarder.testing.fake_server import html, saying
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.fault_run import deliver_all
from forwarder.testing.samples import ACCOUNTS, NORMALISERS, ROWS, page_of
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from tests.sinks.fakes.sentinel import FakeSentinel

LOGINS, CHANGES = "Custom-CloudflareAccessLogins", "Custom-CloudflareAccessChanges"


class Azure(FakeSentinel):
    def sink(self) -> Sink:
        return make_sink(self)


class TestSentinel(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Azure]:
        async with Azure() as azure:
            yield azure


@pytest.fixture
async def azure() -> AsyncIterator[FakeSentinel]:
    async with FakeSentinel() as azure:
        yield azure


def make_sink(azure: FakeSentinel, **more: Any) -> SentinelSink:
    return SentinelSink(SentinelConfig.model_validate(azure.settings | more), sink_context())


async def written(azure: FakeSentinel, *batches: Batch, **more: Any) -> list[WriteResult]:
    sink = make_sink(azure, **more)
    try:
        return [await sink.write(batch) for batch in batches]
    finally:
        await sink.aclose()


async def test_every_sample_fits_the_rule_that_is_shipped(azure: FakeSentinel) -> None:
    render = Pipeline(AsimFormat(FormatConfig()), NORMALISERS, ACCOUNTS)
    pages = [render(page_of(stream, [*rows.values()])).events for stream, rows in ROWS.items()]
    await written(azure, batch_of([event for events in pages for event in events]))

    logins, changes, audit, steps, groups, requests, sessions, own = map(len, ROWS.values())
    expected = [logins + groups, changes, requests, sessions, audit + steps + own]
    assert [len(rows) for rows in azure.rows.values()] == expected
    assert not azure.dropped
    assert not azure.misfits


async def test_a_token_serves_many_calls_and_a_revoked_one_is_renewed(azure: FakeSentinel) -> None:
    sink = make_sink(azure)
    await sink.open()
    await sink.write(make_batch(2))
    asked = len(azure.forms)
    azure.revoke()
    await sink.write(make_batch(2, first_offset=10))
    await sink.aclose()

    assert asked == 1
    assert len(azure.forms) == 2
    assert len(azure.arrived()) == 4


async def test_workload_identity_needs_no_secret(azure: FakeSentinel, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("federated\n")
    await written(azure, make_batch(1), client_secret=None, client_assertion_file=str(token))

    assert "client_secret" not in azure.forms[0]
    assert len(azure.arrived()) == 1


async def test_the_stream_that_failed_comes_back_alone(azure: FakeSentinel) -> None:
    login, change = make_event(0), make_event(1, stream="scim_updates")
    sink = make_sink(azure)
    await sink.open()
    azure.refused = change.body
    first = await sink.write(batch_of([login, change]))
    with pytest.raises(BatchRefusedError):
        await sink.write(batch_of([change]))
    await sink.aclose()

    assert first.deferred == {1}
    assert set(azure.arrived()) == {login.id}


async def test_the_engine_finds_the_event_that_azure_refuses(azure: FakeSentinel) -> None:
    azure.refused = b'"n":17}'
    outcome = await deliver_all(make_sink(azure), 300)

    assert outcome.dead == {make_event(17).id}
    assert azure.arrived() == {make_event(n).id: 1 for n in range(300) if n != 17}


async def test_a_full_batch_stays_below_a_megabyte(azure: FakeSentinel) -> None:
    limits = make_sink(azure).limits
    body = b'{"id":"%s"}' % (b"x" * (limits.max_bytes // limits.max_events - 9))
    events = [make_event(n, body=body) for n in range(limits.max_events)]

    assert (await written(azure, batch_of(events)))[0].notes == ()
    with pytest.raises(BatchTooLargeError):
        await written(azure, batch_of([*events, *events[:60]]))


async def test_a_text_that_azure_may_cut_is_noted(azure: FakeSentinel) -> None:
    body = b'{"id":"%s"}' % (b"x" * 70_000)
    (result,) = await written(azure, batch_of([make_event(0, body=body)]))

    assert [note.partition(":")[0] for note in result.notes] == ["texts_cut"]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (saying(200, "{}"), NeedsOperatorError),
        (html(200), NeedsOperatorError),
        (saying(400), BatchRefusedError),
        (saying(404), NeedsOperatorError),
        (saying(413), BatchTooLargeError),
        (saying(500), TransientError),
        (saying(503), TransientError),
    ],
)
async def test_answers_lead_to_what_the_engine_must_do(
    azure: FakeSentinel, script: Any, error: type[Exception]
) -> None:
    azure.script.append(script)
    with pytest.raises(error) as caught:
        await written(azure, make_batch(1))

    assert type(caught.value) is error


async def test_too_many_calls_say_how_long_to_wait(azure: FakeSentinel) -> None:
    azure.script.append(saying(429, **{"Retry-After": "60"}))
    with pytest.raises(TransientError) as caught:
        await written(azure, make_batch(1))

    assert caught.value.retry_after == 60.0


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"client_secret": "wrong"}, "client_secret"),
        ({"rule_id": "dcr-00"}, "rule_id"),
        ({"streams": {"access_requests": "Custom-Other"}}, "streams"),
        ({"scope": "https://monitor.azure.us/.default"}, "scope"),
    ],
)
async def test_what_an_operator_got_wrong_is_found_before_the_first_event(
    azure: FakeSentinel, change: dict[str, Any], hint: str
) -> None:
    sink = make_sink(azure, **change)
    with pytest.raises(NeedsOperatorError) as caught:
        await sink.open()
    (finding,) = await sink.diagnose()
    await sink.aclose()

    assert hint in caught.value.hint
    assert finding.level == "fault"


def test_pushed_logins_go_to_the_table_of_polled_ones() -> None:
    streams = SentinelConfig.model_validate(FakeSentinel().settings).streams
    logs = ("access_requests", "logpush_access_requests", "logpush_audit_logs_v2", "forwarder")

    parts = parts_of(streams, [make_event(number, stream=log) for number, log in enumerate(logs)])

    audit = "Custom-CloudflareAccessAudit"
    assert {LOGINS: [0, 1], audit: [2, 3]} == {
        table: [event.offset for event in events] for table, events in parts.items()
    }


async def test_a_missing_role_says_that_it_takes_time(azure: FakeSentinel) -> None:
    azure.allowed = False
    with pytest.raises(NeedsOperatorError) as caught:
        await written(azure, make_batch(1))

    assert "30 minutes" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"client_secret": None},
        {"client_assertion": "x"},
        {"rule_id": "x"},
        {"authority": "ftp://x"},
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any]) -> None:
    known = FakeSentinel().settings
    with pytest.raises(ValidationError):
        SentinelConfig.model_validate(known | change)


def test_a_format_of_lines_is_refused() -> None:
    config = SentinelConfig.model_validate(FakeSentinel().settings)
    with pytest.raises(ConfigError, match="JSON"):
        SentinelSink(config, sink_context(media_type="text/plain"))
