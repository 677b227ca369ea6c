"""The Splunk HEC sink against a collector that does what live ones do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from forwarder.core.contracts import Rejection, WriteResult
from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    NeedsOperatorError,
    TransientError,
)
from forwarder.sinks.splunk_hec import SplunkHecConfig, SplunkHecSink
from forwarder.testing.fake_server import body_of, html, saying
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from tests.sinks.fakes.hec import FakeHec, say


@pytest.fixture
async def hec() -> AsyncIterator[FakeHec]:
    async with FakeHec() as hec:
        yield hec


def make_sink(
    *collectors: FakeHec, media_type: str = "application/json", **more: Any
) -> SplunkHecSink:
    config = SplunkHecConfig.model_validate(
        {
            "urls": [hec.url for hec in collectors],
            "token": collectors[0].token,
            "ack_interval": 0.02,
            **more,
        }
    )
    return SplunkHecSink(config, sink_context(media_type=media_type))


def ids(count: int, first: int = 0) -> set[str]:
    return {make_event(offset).id for offset in range(first, first + count)}


async def test_a_batch_is_one_compressed_request_with_token_and_channel(hec: FakeHec) -> None:
    sink = make_sink(hec)
    await sink.write(make_batch(3))
    await sink.aclose()

    assert hec.deliveries == 1
    assert hec.headers[0]["Content-Encoding"] == "gzip"
    assert len(hec.headers[0]["X-Splunk-Request-Channel"]) == 36
    assert hec.arrived().keys() == ids(3)


async def test_compression_can_be_switched_off(hec: FakeHec) -> None:
    sink = make_sink(hec, gzip=False)
    await sink.write(make_batch(3))
    await sink.aclose()

    assert "Content-Encoding" not in hec.headers[0]
    assert hec.arrived().keys() == ids(3)


async def test_one_channel_serves_until_the_connection_was_in_doubt(hec: FakeHec) -> None:
    sink = make_sink(hec)
    await sink.write(make_batch(1))
    await sink.write(make_batch(1))
    await hec.go_down()
    with pytest.raises(TransientError):
        await sink.write(make_batch(1))
    await hec.come_back()
    await sink.write(make_batch(1))
    await sink.aclose()

    first, second, third = (headers["X-Splunk-Request-Channel"] for headers in hec.headers)
    assert first == second != third


async def test_without_acknowledgement_200_counts_and_is_noted_once(hec: FakeHec) -> None:
    sink = make_sink(hec)
    first, second = await sink.write(make_batch(1)), await sink.write(make_batch(1))
    await sink.aclose()

    assert [note.partition(":")[0] for note in first.notes] == ["acks_disabled"]
    assert not second.notes
    assert hec.ack_requests == 0


async def test_write_returns_only_when_the_indexers_have_acknowledged(hec: FakeHec) -> None:
    hec.acks, hec.ack_delay = True, 60.0
    sink, batch = make_sink(hec, ack_interval=0.05), make_batch(2)
    writing = asyncio.create_task(sink.write(batch))
    async with asyncio.timeout(60):
        while not hec.ack_requests:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)

    assert not writing.done()
    assert not batch.events, "what only waits for an acknowledgement keeps no event in memory"
    for channel in hec.channels.values():
        channel.due = dict.fromkeys(channel.due, 0.0)
    assert await writing == WriteResult()
    await sink.aclose()


async def test_many_batches_wait_at_once_and_one_question_asks_for_all(hec: FakeHec) -> None:
    hec.acks, hec.ack_delay = True, 0.3
    sink = make_sink(hec, ack_interval=0.1)
    async with asyncio.timeout(60):
        await asyncio.gather(*(sink.write(make_batch(1, first_offset=i)) for i in range(200)))
    await sink.aclose()

    assert hec.arrived().keys() == ids(200)
    assert hec.ack_requests < 100


async def test_acknowledgement_that_is_off_is_not_asked_for(hec: FakeHec) -> None:
    hec.acks, hec.ack_delay = True, 60.0
    sink = make_sink(hec, ack="off")
    assert await sink.write(make_batch(2)) == WriteResult()
    await sink.aclose()

    assert hec.ack_requests == 0


async def test_required_acknowledgement_refuses_a_token_without_it_before_writing(
    hec: FakeHec,
) -> None:
    sink = make_sink(hec, ack="required")
    with pytest.raises(NeedsOperatorError, match="acknowledgement"):
        await sink.open()
    with pytest.raises(NeedsOperatorError, match="acknowledgement"):
        await sink.write(make_batch(1))
    await sink.aclose()


async def test_an_acknowledgement_that_never_comes_sends_the_batch_again(hec: FakeHec) -> None:
    hec.acks, hec.ack_delay = True, 60.0
    sink = make_sink(hec, ack_timeout=0.1)
    with pytest.raises(TransientError, match=r"no acknowledgement within 0\.1 s"):
        await sink.write(make_batch(1))
    await sink.aclose()


async def test_a_collector_that_went_away_is_not_waited_for_until_the_time_out(
    hec: FakeHec,
) -> None:
    hec.acks, hec.ack_delay = True, 60.0
    sink = make_sink(hec)
    writing = asyncio.create_task(sink.write(make_batch(1)))
    await asyncio.sleep(0.1)
    await hec.kill()
    async with asyncio.timeout(30):
        with pytest.raises(TransientError):
            await writing
    await sink.aclose()


async def test_an_id_of_a_restarted_collector_acknowledges_no_older_batch(hec: FakeHec) -> None:
    """The old batch has id 0 of the old life; the new one gets id 0 of the new life."""
    hec.acks, hec.ack_delay = True, 60.0
    sink = make_sink(hec, ack_interval=0.05)
    old = asyncio.create_task(sink.write(make_batch(1)))
    while not hec.channels:  # noqa: ASYNC110 - the fake has no event for it
        await asyncio.sleep(0.005)
    hec.channels.clear()
    hec.indexed.clear()
    hec.ack_delay = 0.0
    with pytest.raises(TransientError, match="twice"):
        await sink.write(make_batch(1, first_offset=1))
    with pytest.raises(TransientError, match="twice"):
        await old
    await sink.write(make_batch(2))
    await sink.aclose()

    assert hec.arrived().keys() == ids(2)


async def test_events_before_a_bad_one_are_accepted_and_those_after_it_are_deferred(
    hec: FakeHec,
) -> None:
    hec.acks = True
    events = [make_event(10), make_event(11), make_event(12, body=b'""'), make_event(13)]
    sink = make_sink(hec)
    result = await sink.write(batch_of(events))
    await sink.aclose()

    assert result.rejected == (Rejection(12, "event field cannot be blank"),)
    assert result.deferred == {13}
    assert hec.arrived().keys() == ids(2, first=10)
    assert hec.ack_requests > 0, "the accepted events were acknowledged too"


async def test_a_bad_first_event_waits_for_no_acknowledgement(hec: FakeHec) -> None:
    hec.acks, hec.ack_delay = True, 60.0
    sink = make_sink(hec)
    result = await sink.write(batch_of([make_event(5, body=b'""'), make_event(6)]))
    await sink.aclose()

    assert [rejection.offset for rejection in result.rejected] == [5]
    assert result.deferred == {6}


async def test_too_much_for_the_cloud_is_split_and_not_dead_lettered(hec: FakeHec) -> None:
    hec.cloud = True
    big = [make_event(i, body=b'{"id":"%d","x":"%b"}' % (i, b"x" * 3_000_000)) for i in (1, 2)]
    sink = make_sink(hec)
    with pytest.raises(BatchTooLargeError):
        await sink.write(batch_of(big))
    await sink.write(batch_of(big[:1]))
    await sink.aclose()


async def test_a_wrong_index_holds_the_sink_and_loses_nothing(hec: FakeHec) -> None:
    hec.indexes = frozenset({"main"})
    sink = make_sink(hec, index="secret")
    with pytest.raises(NeedsOperatorError, match="incorrect index"):
        await sink.write(make_batch(3))
    await sink.aclose()

    assert not hec.arrived()


@pytest.mark.parametrize("code", [24, 25])
async def test_a_nearly_full_queue_has_taken_the_batch_and_asks_to_ease_off(
    hec: FakeHec, code: int
) -> None:
    hec.acks, hec.code = True, code
    sink = make_sink(hec)
    result = await sink.write(make_batch(2))
    await sink.aclose()

    assert result.slow_down
    assert hec.arrived().keys() == ids(2)


async def test_a_refused_channel_is_replaced(hec: FakeHec) -> None:
    hec.script.append(saying(400, '{"text":"Invalid data channel","code":11}'))
    sink = make_sink(hec)
    with pytest.raises(TransientError):
        await sink.write(make_batch(1))
    await sink.write(make_batch(1))
    await sink.aclose()

    assert hec.arrived().keys() == ids(1)


async def test_a_page_of_a_balancer_is_no_delivery(hec: FakeHec) -> None:
    hec.script += [html(200), html(502), html(200)]
    sink = make_sink(hec)
    for _ in range(3):
        with pytest.raises(TransientError):
            await sink.write(make_batch(1))
    await sink.aclose()

    assert hec.deliveries == 3


async def test_no_data_is_for_the_engine_to_bisect(hec: FakeHec) -> None:
    async def no_data(_: object) -> Any:
        return say(5)

    hec.script.append(no_data)
    sink = make_sink(hec)
    with pytest.raises(BatchRefusedError):
        await sink.write(make_batch(2))
    await sink.aclose()


async def test_a_second_collector_takes_over_and_the_first_is_used_again() -> None:
    async with FakeHec() as first, FakeHec() as second:
        sink = make_sink(first, second)
        await first.kill()
        await sink.open()
        await sink.write(make_batch(1))
        await first.start()
        await sink.open()
        await sink.write(make_batch(1, first_offset=1))
        await sink.aclose()

        assert second.arrived().keys() == ids(1)
        assert first.arrived().keys() == ids(1, first=1)


async def test_a_failed_write_goes_elsewhere_next_time() -> None:
    async with FakeHec() as first, FakeHec() as second:
        sink = make_sink(first, second)
        await first.go_down()
        with pytest.raises(TransientError):
            await sink.write(make_batch(1))
        await sink.write(make_batch(1))
        await sink.aclose()

        assert second.arrived().keys() == ids(1)


async def test_writes_behind_a_failed_one_fail_at_once_instead_of_one_after_another(
    hec: FakeHec,
) -> None:
    await hec.hang()
    sink = make_sink(hec, connections=1, response_timeout=2)
    async with asyncio.timeout(20):
        results = await asyncio.gather(
            *(sink.write(make_batch(1)) for _ in range(20)), return_exceptions=True
        )
    await sink.aclose()

    assert {type(result) for result in results} == {TransientError}


async def test_a_text_format_arrives_as_text(hec: FakeHec) -> None:
    sink = make_sink(hec, media_type="text/plain")
    await sink.write(batch_of([make_event(0, body=b"CEF:0|a|b")]))
    await sink.aclose()

    assert hec.indexed[0]["event"] == "CEF:0|a|b"


async def test_the_raw_endpoint_takes_lines(hec: FakeHec) -> None:
    sink = make_sink(hec, endpoint="raw", index="main")
    await sink.write(make_batch(2))
    await sink.aclose()

    assert [labels for labels, _ in hec.lines] == [{"index": "main"}] * 2
    assert hec.arrived().keys() == ids(2)


async def test_a_rotated_token_heals_without_a_restart(hec: FakeHec, tmp_path: Any) -> None:
    secret = tmp_path / "token"
    secret.write_text("old-token")
    sink = make_sink(hec, token=None, token_file=str(secret))
    with pytest.raises(NeedsOperatorError):
        await sink.open()
    secret.write_text(hec.token + "\n")
    await sink.open()
    await sink.aclose()


async def test_a_token_with_a_line_end_in_it_asks_for_a_person(hec: FakeHec) -> None:
    sink = make_sink(hec, token="two\nlines")
    with pytest.raises(NeedsOperatorError):
        await sink.open()
    await sink.aclose()


async def test_diagnosis_names_what_is_wrong_at_each_address(hec: FakeHec) -> None:
    async with FakeHec() as other:
        other.token = "another"
        sink = make_sink(hec, other)
        good, bad = await sink.diagnose()
        await sink.aclose()

    assert (good.level, bad.level) == ("ok", "fault")
    assert (bad.text, bool(bad.hint)) == ("invalid token", True)
    assert hec.token not in f"{good}{bad}"


async def test_what_a_busy_collector_took_is_delivered_and_only_the_rest_comes_again(
    hec: FakeHec,
) -> None:
    async def takes_two(request: web.Request) -> web.StreamResponse:
        lines = (await body_of(request)).splitlines()
        hec.indexed += [orjson.loads(line) for line in lines[:2]]
        return say(9, {"invalid-event-number": 2})

    hec.script.append(takes_two)
    sink = make_sink(hec)
    result = await sink.write(make_batch(5))
    await sink.write(batch_of([make_event(offset) for offset in sorted(result.deferred)]))
    await sink.aclose()

    assert result.deferred == {2, 3, 4}
    assert result.slow_down
    assert hec.arrived() == dict.fromkeys(ids(5), 1)
