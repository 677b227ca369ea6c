"""The RELP sink keeps the sink contract and the protocol's rules."""

import asyncio
import contextlib
import socketserver
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trustme
from relppy.server import RelpStreamHandler

from forwarder.core.contracts import Sink
from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.relp import RelpSink
from forwarder.testing.destinations import deliver, failure_of, opened
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.sink_contract import OperatorFaultContract, OutageContract
from tests.sinks.fakes_stream.relp_receiver import RelpReceiver


def make_sink(port: int, **settings: Any) -> RelpSink:
    config = RelpSink.Config(host="127.0.0.1", port=port, **settings)
    return RelpSink(config, sink_context())


class Destination(RelpReceiver):
    def sink(self) -> Sink:
        return make_sink(self.port, window=4)


class TestRelp(OutageContract, OperatorFaultContract):
    @pytest.fixture
    async def destination(self) -> AsyncIterator[Destination]:
        async with Destination() as destination:
            yield destination
        assert not destination.faults


@pytest.fixture
async def receiver() -> AsyncIterator[RelpReceiver]:
    async with RelpReceiver() as receiver:
        yield receiver


async def test_an_event_is_one_message_with_an_rfc_5424_header(receiver: RelpReceiver) -> None:
    sink = make_sink(receiver.port, hostname="here")
    event = make_event(1)

    await sink.write(batch_of([event]))
    await sink.aclose()

    start = b"<86>1 2026-01-01T00:00:01.123456Z here cloudflare-access - access_requests [access@"
    assert receiver.messages[0].startswith(start)
    assert receiver.messages[0].endswith(event.body)


async def test_batches_written_at_once_share_one_connection(receiver: RelpReceiver) -> None:
    sink = make_sink(receiver.port, window=8)
    batches = [make_batch(50, first_offset=100 * i) for i in range(4)]

    await asyncio.gather(*(sink.write(batch) for batch in batches))
    await sink.aclose()

    assert len(receiver.messages) == 200
    assert not receiver.faults


async def test_no_more_messages_are_unanswered_than_the_window_allows(
    receiver: RelpReceiver,
) -> None:
    sink = make_sink(receiver.port, window=5)
    await sink.open()
    receiver.silent = True

    writing = asyncio.create_task(sink.write(make_batch(50)))
    async with asyncio.timeout(60):
        while receiver.unanswered < 5:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    assert receiver.unanswered == 5
    writing.cancel()
    await asyncio.wait([writing])
    await sink.aclose()


async def test_a_refused_message_is_deferred_and_named(receiver: RelpReceiver) -> None:
    sink, batch = make_sink(receiver.port), make_batch(5)
    receiver.refuse = b'"n":3}'

    result = await sink.write(batch)
    await sink.aclose()

    assert result.deferred == {3}
    assert result.notes == ["relp_refused: 500 refused"]
    assert len(receiver.messages) == 4


async def test_a_message_that_is_too_long_is_rejected_with_its_size(
    receiver: RelpReceiver,
) -> None:
    sink = make_sink(receiver.port, max_message_bytes=1000)
    long = make_event(7, body=b"x" * 2000)

    result = await sink.write(batch_of([make_event(6), long, make_event(8)]))
    await sink.aclose()

    assert [rejection.offset for rejection in result.rejected] == [7]
    assert "bytes is over max_message_bytes 1000" in result.rejected[0].reason
    assert len(receiver.messages) == 2


async def test_what_was_unanswered_when_the_connection_broke_fails(receiver: RelpReceiver) -> None:
    sink = make_sink(receiver.port)
    await sink.open()
    receiver.silent = True
    writing = asyncio.create_task(sink.write(make_batch(5)))
    await asyncio.sleep(0.05)

    receiver.cut()

    with pytest.raises(TransientError):
        await writing
    await sink.aclose()


async def test_what_was_answered_before_the_connection_broke_is_delivered(
    receiver: RelpReceiver,
) -> None:
    sink = make_sink(receiver.port, window=2)
    await sink.open()
    writing = asyncio.create_task(sink.write(make_batch(5)))
    while receiver.tries < 2:  # noqa: ASYNC110 - the receiver has no event for it
        await asyncio.sleep(0)
    receiver.silent = True
    while not receiver.unanswered:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)
    receiver.cut()
    result = await writing
    arrived = len(receiver.arrived())
    receiver.silent = False
    again = await sink.write(batch_of([make_event(offset) for offset in sorted(result.deferred)]))
    await sink.aclose()

    assert 0 < arrived == 5 - len(result.deferred) < 5
    assert not again.deferred
    assert set(receiver.arrived().values()) == {1}


async def test_the_next_receiver_is_taken_when_the_first_is_away(receiver: RelpReceiver) -> None:
    config = RelpSink.Config(hosts=["127.0.0.1:1", f"127.0.0.1:{receiver.port}"])
    sink = RelpSink(config, sink_context())

    await sink.open()
    await deliver(sink, make_batch(3))
    await sink.aclose()

    assert len(receiver.messages) == 3


async def test_the_session_is_closed_politely(receiver: RelpReceiver) -> None:
    sink = make_sink(receiver.port)
    await deliver(sink, make_batch(3))

    await sink.aclose()

    assert receiver.goodbyes == 1
    assert not receiver.faults


async def test_a_receiver_that_speaks_no_relp_is_an_error() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP ready, what do you want from me then\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sink = make_sink(server.sockets[0].getsockname()[1])

    with pytest.raises(TransientError, match="breaks the RELP protocol"):
        await sink.open()
    await sink.aclose()
    server.close()
    await asyncio.sleep(0.01)


class TestTls:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    async def receiver(self, authority: trustme.CA) -> AsyncIterator[RelpReceiver]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        async with RelpReceiver(context) as receiver:
            yield receiver

    async def test_a_trusted_receiver_gets_the_events(
        self, receiver: RelpReceiver, authority: trustme.CA, tmp_path: Any
    ) -> None:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        sink = make_sink(receiver.port, tls={"ca_file": tmp_path / "ca.pem"})

        await deliver(sink, make_batch(500))
        await sink.aclose()

        assert len(receiver.arrived()) == 500

    async def test_an_unknown_authority_needs_an_operator(self, receiver: RelpReceiver) -> None:
        sink = make_sink(receiver.port, tls={})

        with pytest.raises(NeedsOperatorError, match=r"certificate of 127\.0\.0\.1") as caught:
            await sink.open()

        assert "tls.ca_file" in caught.value.hint
        await sink.aclose()


class _Keeper(RelpStreamHandler):  # type: ignore[misc] # it ships no types
    kept: list[bytes]

    def do_syslog(self, msg: Any) -> None:
        self.kept.append(msg.data)


class TestIndependentReceiver:
    """relppy's server, written by somebody else, understands us."""

    @pytest.fixture
    def kept(self) -> list[bytes]:
        return []

    @pytest.fixture
    def port(self, kept: list[bytes]) -> Iterator[int]:
        handler = type("Handler", (_Keeper,), {"kept": kept})
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield server.server_address[1]
            server.shutdown()
            thread.join()

    async def test_messages_with_line_feeds_arrive_whole(
        self, port: int, kept: list[bytes]
    ) -> None:
        events = [make_event(n, body=b'{"n":%d}\nsecond line' % n) for n in range(300)]
        sink = make_sink(port)

        await deliver(sink, batch_of(events))
        await sink.aclose()

        assert [line[line.index(b"{") :] for line in kept] == [event.body for event in events]


async def test_a_dead_receiver_fails_every_write_and_leaves_no_task_behind() -> None:
    async with Destination() as destination:
        sink = await opened(destination)
        await destination.go_down()

        for _ in range(20):
            await failure_of(sink, make_batch(3))

        assert asyncio.all_tasks() == {asyncio.current_task()}
        await sink.aclose()
