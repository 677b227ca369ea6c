"""The syslog sink over TCP and TLS: the sink contract, and what plain TCP allows to promise."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from forwarder.core.contracts import Sink
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.core.happenings import Happening
from forwarder.sinks.syslog import SyslogSink
from forwarder.sinks.syslog.happenings import WindowResent
from forwarder.testing.batches import batch_of, make_batch, make_event, sink_context
from forwarder.testing.destinations import FaultyDestination
from forwarder.testing.sink_contract import OutageContract
from forwarder.testing.writing import deliver, failure_of, opened
from tests.sinks.fakes_stream.syslog_receiver import SyslogReceiver, octet_frames


def make_sink(port: int, report: Any = None, **settings: Any) -> SyslogSink:
    given = {"host": "127.0.0.1", "port": port, "transport": "tcp", **settings}
    context = sink_context(report=report or (lambda _: None))
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
        await asyncio.wait([writing], timeout=1)
        await asyncio.wait_for(sink.aclose(), 4.5)
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
    reported: list[Happening] = []
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
        writing = asyncio.create_task(write_until_accepted(sink, batch))
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
        await write_until_accepted(sink, make_batch(10, first_offset=10))

        assert len(second.arrived()) == 20
        await sink.aclose()


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


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> trustme.CA:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        client = authority.issue_cert("forwarder.example.org")
        client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
        return authority

    @pytest.fixture
    def context(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", "logs.example.org").configure_cert(context)
        authority.configure_trust(context)
        return context

    async def test_events_arrive(self, context: ssl.SSLContext, tmp_path: Path) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        client = {"cert_file": tmp_path / "client.pem", "key_file": tmp_path / "client.pem"}
        async with tls_receiver(context) as (port, received):
            sink = make_sink(port, transport="tls", tls={"ca_file": tmp_path / "ca.pem", **client})
            for number in range(10):
                await deliver(sink, make_batch(100, first_offset=100 * number))
            await sink.aclose()

        assert len(list(octet_frames(bytes(received)))) == 1000

    async def test_a_certificate_of_an_unknown_authority_needs_an_operator(
        self, context: ssl.SSLContext
    ) -> None:
        async with tls_receiver(context) as (port, _):
            sink = make_sink(port, transport="tls")
            with pytest.raises(NeedsOperatorError) as caught:
                await sink.open()
            await sink.aclose()

        assert "tls.ca_file" in caught.value.hint

    async def test_another_name_can_be_expected(
        self, context: ssl.SSLContext, tmp_path: Path
    ) -> None:
        async with tls_receiver(context) as (port, _):
            for name, right in [("logs.example.org", True), ("other.example.org", False)]:
                tls = {"ca_file": tmp_path / "ca.pem", "server_name": name}
                sink = make_sink(port, transport="tls", tls=tls)
                if right:
                    await sink.open()
                else:
                    with pytest.raises(NeedsOperatorError, match="certificate"):
                        await sink.open()
                await sink.aclose()

    async def test_a_missing_client_certificate_needs_an_operator(
        self, context: ssl.SSLContext, tmp_path: Path
    ) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        with socket.create_server(("127.0.0.1", 0)) as listener:
            refusing = asyncio.create_task(asyncio.to_thread(_refuse_handshake, listener, context))
            tls = {"ca_file": tmp_path / "ca.pem"}
            sink = make_sink(listener.getsockname()[1], transport="tls", tls=tls)
            with pytest.raises(NeedsOperatorError) as caught:
                await sink.write(make_batch(1))
            await refusing
            await sink.aclose()

        assert "tls.cert_file" in caught.value.hint

    async def test_a_port_without_tls_needs_an_operator(self, receiver: SyslogReceiver) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example.org ESMTP\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        sink = make_sink(server.sockets[0].getsockname()[1], transport="tls")

        with pytest.raises(NeedsOperatorError, match="no TLS connection"):
            await sink.open()
        await sink.aclose()
        server.close()
        await asyncio.sleep(0.01)


def _refuse_handshake(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Take one connection and tell why it is refused, as asyncio's own server does not."""
    connection, _ = listener.accept()
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_side=True)
    connection.close()


class tls_receiver:  # noqa: N801 - used like a function
    """Collects what arrives over TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._received = bytearray()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> tuple[int, bytearray]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return self._server.sockets[0].getsockname()[1], self._received

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await asyncio.gather(*self._tasks)
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            while data := await reader.read(1 << 16):
                self._received += data
        except OSError:
            pass
        writer.close()


async def write_until_accepted(sink: Sink, batch: Any) -> None:
    await write_until(sink, batch, failures=1000)


async def write_until(sink: Sink, batch: Any, failures: int) -> None:
    """Write as the engine does: open and repeat after a failure."""
    while True:
        try:
            await sink.write(batch)
        except TransientError:
            failures -= 1
            if not failures:
                raise
            await asyncio.sleep(0.001)
        else:
            return


async def until(is_true: Any) -> None:
    async with asyncio.timeout(5):
        while not is_true():
            await asyncio.sleep(0.01)
