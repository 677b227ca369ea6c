"""The Loki sink against a Loki that refuses what real ones refuse."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from forwarder.core.contracts import Batch, Rejection, Sink, WriteResult
from forwarder.core.errors import BatchRefusedError, NeedsOperatorError, TransientError
from forwarder.sinks.loki import LokiConfig, LokiSink, judge, streams_of
from forwarder.testing.fake_server import saying
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.fault_run import deliver_all
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from tests.sinks.fakes.loki import FakeLoki

DAY = 86_400


class Loki(FakeLoki):
    @property
    def secrets(self) -> Sequence[str]:
        return (self.token,)

    def sink(self) -> Sink:
        return make_sink(self)


class TestLoki(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Loki]:
        async with Loki() as loki:
            yield loki


@pytest.fixture
async def loki() -> AsyncIterator[FakeLoki]:
    async with FakeLoki() as loki:
        yield loki


def make_sink(loki: FakeLoki, **more: Any) -> LokiSink:
    given = {"url": loki.url, "bearer_token": loki.token, "tenant": loki.tenant, **more}
    return LokiSink(LokiConfig.model_validate(given), sink_context())


async def written(loki: FakeLoki, *batches: Batch, **more: Any) -> list[WriteResult]:
    sink = make_sink(loki, **more)
    try:
        return [await sink.write(batch) for batch in batches]
    finally:
        await sink.aclose()


async def test_a_push_names_the_tenant_and_is_compressed(loki: FakeLoki) -> None:
    await written(loki, make_batch(2))

    assert loki.headers[0]["X-Scope-OrgID"] == "team-a"
    assert loki.headers[0]["Content-Encoding"] == "gzip"


async def test_labels_come_from_the_settings_and_the_event_and_the_kind_of_lane(
    loki: FakeLoki,
) -> None:
    events = [make_event(0), make_event(1, stream="scim_updates", account="other")]
    backfill = replace(make_batch(1, first_offset=5), lane="backfill:7f3a")
    await written(loki, batch_of(events), backfill)
    await written(loki, make_batch(1), labels={"env": "prod"}, event_labels=["outcome"])

    assert set(loki.streams) == {
        '{account="acme", job="cloudflare_access", lane="live", stream="access_requests"}',
        '{account="other", job="cloudflare_access", lane="live", stream="scim_updates"}',
        '{account="acme", job="cloudflare_access", lane="backfill", stream="access_requests"}',
        '{env="prod", outcome="success"}',
    }


async def test_lines_of_a_stream_are_in_order_of_time(loki: FakeLoki) -> None:
    await written(loki, batch_of([make_event(offset) for offset in (5, 1, 9, 3)]))

    (lines,) = loki.streams.values()
    assert [time for time, _ in lines] == sorted(time for time, _ in lines)


async def test_what_is_too_far_behind_is_refused_as_expected_and_the_rest_is_stored_once(
    loki: FakeLoki,
) -> None:
    old, late = [make_event(0), make_event(1)], make_event(DAY - 10)
    other = make_event(2, stream="scim_updates")
    sink = make_sink(loki)
    await sink.write(batch_of([make_event(DAY)]))
    first = await sink.write(batch_of([*old, other, late]))
    again = await sink.write(batch_of([other, late]))
    await sink.aclose()

    reason = "older than Loki takes into its stream"
    assert list(first.rejected) == [Rejection(n, reason, expected=True) for n in (0, 1)]
    assert first.deferred == {other.offset, late.offset}
    assert again == WriteResult()
    assert set(loki.arrived().values()) == {1}
    assert len(loki.arrived()) == 3


async def test_a_backfill_is_not_too_far_behind_live_events(loki: FakeLoki) -> None:
    live = batch_of([make_event(DAY)])
    results = await written(loki, live, replace(make_batch(3), lane="backfill:1"))

    assert results == [WriteResult(), WriteResult()]


async def test_what_is_older_than_the_limit_of_the_tenant_is_expected(loki: FakeLoki) -> None:
    loki.oldest_us = make_event(2).time_us
    ((result),) = await written(loki, make_batch(4))

    assert [(one.offset, one.expected) for one in result.rejected] == [(0, True), (1, True)]
    assert result.deferred == {2, 3}


async def test_one_event_that_is_refused_for_something_else_is_not_expected(
    loki: FakeLoki,
) -> None:
    loki.longest = 10
    with pytest.raises(BatchRefusedError):
        await written(loki, make_batch(2))
    ((result),) = await written(loki, make_batch(1))

    assert [(one.offset, one.expected) for one in result.rejected] == [(0, False)]


async def test_labels_that_loki_refuses_ask_for_a_person(loki: FakeLoki) -> None:
    loki.most_labels = 2
    with pytest.raises(NeedsOperatorError, match="labels"):
        await written(loki, make_batch(2))


@pytest.mark.parametrize("text", ["", "too far behind", "oldest acceptable timestamp is: soon"])
def test_an_answer_that_names_nothing_is_for_the_engine_to_bisect(text: str) -> None:
    streams = streams_of(LokiConfig(url="http://loki"), make_batch(2))

    with pytest.raises(BatchRefusedError):
        judge(text, streams, "http://loki")


async def test_the_engine_gives_up_what_is_too_old_and_delivers_the_rest_once(
    loki: FakeLoki,
) -> None:
    loki.oldest_us = make_event(200).time_us
    outcome = await deliver_all(make_sink(loki), 300)

    assert outcome.dead == {make_event(offset).id for offset in range(200)}
    assert loki.arrived() == {make_event(offset).id: 1 for offset in range(200, 300)}


async def test_too_many_requests_say_how_long_to_wait(loki: FakeLoki) -> None:
    loki.script.append(saying(429, "ingestion rate limit", **{"Retry-After": "3"}))
    with pytest.raises(TransientError) as caught:
        await written(loki, make_batch(1))

    assert type(caught.value) is TransientError
    assert caught.value.retry_after == 3.0


@pytest.mark.parametrize("change", [{"tenant": "other"}, {"bearer_token": "wrong"}])
async def test_a_wrong_tenant_or_token_is_found_before_the_first_event(
    loki: FakeLoki, change: dict[str, str]
) -> None:
    sink = make_sink(loki, **change)
    with pytest.raises(NeedsOperatorError):
        await sink.open()
    findings = await sink.diagnose()
    await sink.aclose()

    assert [finding.level for finding in findings] == ["fault"]


async def test_a_success_that_stores_nothing_is_no_success(loki: FakeLoki) -> None:
    loki.blocked = True
    with pytest.raises(NeedsOperatorError, match="260"):
        await written(loki, make_batch(1))


@pytest.mark.parametrize(
    "given", [{"labels": {"my-label": "x"}}, {"event_labels": ["user"]}, {"tenant": ""}]
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LokiConfig.model_validate({"url": "http://loki", **given})
