"""The syslog sink over TCP: the sink contract, and what plain TCP allows to promise."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from forwarder.core.contracts import Sink
from forwarder.core.telemetry import TelemetryEvent
from forwarder.sinks.syslog import SyslogSink, WindowResent
from forwarder.testing.destinations import (
    FaultyDestination,
    deliver,
    deliver_at_last,
    failure_of,
    opened,
)
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.sink_contract import OutageContract
from tests.sinks.fakes_stream.syslog_receiver import SyslogReceiver


def make_sink(port: int, emit: Any = None, **settings: Any) -> SyslogSink:
    given = {"host": "127.0.0.1", "port": port, "transport": "tcp", **settings}
    context = sink_context(emit=emit or (lambda _: None))
    return SyslogSink(SyslogSink.Config.model_validate(given), context)


class Destination(SyslogReceiver):
    def sink(self) -> Sink:
        return make_sink(self.port, framing=self._framing)


class TestSyslogOverTcp(OutageContract):
    @pytest.fixture(params=["octet_counting", "lf"])
    async def destination(self, request: pytest.FixtureRequest) -> AsyncIterator[Destination]:
        async with Destination(request.param) as destination:
            yield destination

    async def test_a_hanging_destination_blocks_neither_cancelling_nor_closing(
        self, destination: FaultyDestination
    ) -> None:
        """Here with more than socket buffers take: what a kernel took counts as delivered."""
        sink = await opened(destination)
        await destination.hang()
        events = [make_event(n, body=b"x" * 7000) for n in range(2000)]
        writing = asyncio.create_task(sink.write(batch_of(events)))
        await asyncio.sleep(0.1)

        assert not writing.done()
        writing.cancel()
        await asyncio.wait([writing], timeout=30)
        await asyncio.wait_for(sink.aclose(), 30)
        await destination.come_back()


@pytest.fixture
async def receiver() -> AsyncIterator[SyslogReceiver]:
    async with SyslogReceiver() as receiver:
        yield receiver


async def test_a_write_returns_only_when_the_receivers_kernel_has_all_of_it(
    receiver: SyslogReceiver,
) -> None:
    sink = make_sink(receiver.port)
    await receiver.hang()
    events = [make_event(n, body=b"x" * 7000) for n in range(2000)]
    writing = asyncio.create_task(sink.write(batch_of(events)))
    await asyncio.sleep(0.1)

    assert not writing.done()
    await receiver.come_back()
    await writing
    assert len(receiver.received) == 2000
    await sink.aclose()


async def test_what_was_acknowledged_but_not_read_is_sent_again(receiver: SyslogReceiver) -> None:
    reported: list[TelemetryEvent] = []
    sink = make_sink(receiver.port, reported.append)
    await sink.open()
    await receiver.hang()
    await deliver(sink, make_batch(100))

    receiver.close_connections(read_first=False)
    await receiver.come_back()
    await until(lambda: len(receiver.arrived()) == 100)

    assert reported == [WindowResent("test", f"127.0.0.1:{receiver.port}", 100)]
    await sink.aclose()


async def test_an_outage_of_the_receiver_is_survived_by_what_was_not_read(
    receiver: SyslogReceiver,
) -> None:
    sink = make_sink(receiver.port)
    await sink.open()
    await receiver.hang()
    await deliver(sink, make_batch(10))
    receiver.close_connections(read_first=False)
    await receiver.go_down()
    await asyncio.sleep(0.3)

    await receiver.come_back()
    await sink.open()
    await deliver(sink, make_batch(10, first_offset=10))

    assert len(receiver.arrived()) == 20
    await sink.aclose()


def arrived(receiver: SyslogReceiver, messages: int) -> bool:
    return receiver.arrived().total() == messages


async def test_behind_a_balancer_that_closes_idle_connections_nothing_is_sent_for_ever(
    receiver: SyslogReceiver,
) -> None:
    sink = make_sink(receiver.port)
    await deliver(sink, make_batch(3))

    for number in range(1, 5):
        await until(partial(arrived, receiver, 3 * number))
        receiver.close_connections()
    await asyncio.sleep(1.5)

    assert set(receiver.arrived().values()) == {4}
    assert receiver.connections == 4
    await sink.aclose()


async def test_closing_sends_again_what_the_receiver_left_unread(receiver: SyslogReceiver) -> None:
    sink = make_sink(receiver.port)
    await sink.open()
    await receiver.hang()
    await deliver(sink, make_batch(10))

    closing = asyncio.create_task(sink.aclose())
    await asyncio.sleep(0.05)
    receiver.close_connections(read_first=False)
    await receiver.come_back()
    await closing

    assert len(receiver.arrived()) == 10


async def test_a_window_of_zero_sends_nothing_again(receiver: SyslogReceiver) -> None:
    sink = make_sink(receiver.port, resend_window=0)
    await deliver(sink, make_batch(10))
    receiver.close_connections()
    await asyncio.sleep(0.02)

    await deliver(sink, make_batch(10, first_offset=10))

    assert set(receiver.arrived().values()) == {1}
    await sink.aclose()


async def test_a_close_is_noticed_before_the_next_write(receiver: SyslogReceiver) -> None:
    sink = make_sink(receiver.port, resend_window=0)
    await deliver(sink, make_batch(1))
    receiver.close_connections()
    await asyncio.sleep(0.02)

    await deliver(sink, make_batch(1, first_offset=1))

    assert len(receiver.arrived()) == 2
    assert receiver.connections == 2
    await sink.aclose()


async def test_nothing_is_lost_in_a_hundred_forced_closes_by_a_receiver_that_reads_to_the_end(
    receiver: SyslogReceiver,
) -> None:
    sink = make_sink(receiver.port)
    await sink.open()

    for number in range(100):
        batch = make_batch(20, first_offset=20 * number)
        writing = asyncio.create_task(deliver_at_last(sink, batch))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        receiver.close_connections(read_first=True, reset=number % 2 == 0)
        await writing
    await sink.aclose()

    assert len(receiver.arrived()) == 2000


async def test_the_next_receiver_takes_over_what_the_first_did_not_read() -> None:
    async with SyslogReceiver() as first, SyslogReceiver() as second:
        hosts = [f"127.0.0.1:{receiver.port}" for receiver in (first, second)]
        sink = make_sink(first.port, host=None, hosts=hosts)
        await sink.open()
        await first.hang()
        await deliver(sink, make_batch(10))

        first.close_connections(read_first=False)
        await first.go_down()
        await deliver_at_last(sink, make_batch(10, first_offset=10))

        assert len(second.arrived()) == 20
        await sink.aclose()


async def test_a_receiver_that_accepts_and_closes_at_once_does_not_keep_the_next_from_it() -> None:
    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    refusing = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = refusing.sockets[0].getsockname()[1]
    async with SyslogReceiver() as second:
        hosts = [f"127.0.0.1:{port}", f"127.0.0.1:{second.port}"]
        sink = make_sink(port, host=None, hosts=hosts)

        await deliver_at_last(sink, make_batch(10))

        assert len(second.arrived()) == 10
        await sink.aclose()
    refusing.close()


async def test_long_messages_are_rejected_or_cut(receiver: SyslogReceiver) -> None:
    batch = batch_of([make_event(0), make_event(1, body=b"x" * 1000)])
    rejecting = make_sink(receiver.port, max_message_bytes=500)
    cutting = make_sink(receiver.port, max_message_bytes=500, oversize="truncate")

    rejected = await rejecting.write(batch)
    cut = await cutting.write(batch)
    sizes = [len(message) for message in receiver.received]
    await rejecting.aclose()
    await cutting.aclose()

    assert [rejection.offset for rejection in rejected.rejected] == [1]
    assert not cut.rejected
    assert sizes.count(500) == 1
    assert len(sizes) == 3


async def test_a_dead_receiver_leaves_no_task_behind(receiver: SyslogReceiver) -> None:
    sink = make_sink(receiver.port)
    await sink.open()
    await receiver.go_down()
    await asyncio.sleep(0.01)

    for _ in range(20):
        await failure_of(sink, make_batch(3))

    assert asyncio.all_tasks() == {asyncio.current_task()}
    await sink.aclose()


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_true():  # noqa: ASYNC110 - there is no event for what a socket holds
            await asyncio.sleep(0.01)
