"""The syslog sink over TLS: who trusts whom."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from forwarder.core.errors import NeedsOperatorError
from forwarder.sinks.syslog import SyslogSink
from forwarder.testing.destinations import deliver
from forwarder.testing.fake_sinks import make_batch, sink_context
from tests.sinks.fakes_stream.syslog_receiver import octet_frames


def make_sink(port: int, **settings: Any) -> SyslogSink:
    given = {"host": "127.0.0.1", "port": port, "transport": "tls", **settings}
    return SyslogSink(SyslogSink.Config.model_validate(given), sink_context())


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client = authority.issue_cert("forwarder.example.org")
    client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    return authority


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "logs.example.org").configure_cert(context)
    authority.configure_trust(context)
    return context


async def test_events_arrive(context: ssl.SSLContext, tmp_path: Path) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    client = {"cert_file": tmp_path / "client.pem", "key_file": tmp_path / "client.pem"}
    async with tls_receiver(context) as (port, received):
        sink = make_sink(port, tls={"ca_file": tmp_path / "ca.pem", **client})
        for number in range(10):
            await deliver(sink, make_batch(100, first_offset=100 * number))
        await sink.aclose()

    assert len(list(octet_frames(bytes(received)))) == 1000


async def test_a_certificate_of_an_unknown_authority_needs_an_operator(
    context: ssl.SSLContext,
) -> None:
    async with tls_receiver(context) as (port, _):
        sink = make_sink(port)
        with pytest.raises(NeedsOperatorError) as caught:
            await sink.open()
        await sink.aclose()

    assert "tls.ca_file" in caught.value.hint


async def test_another_name_can_be_expected(context: ssl.SSLContext, tmp_path: Path) -> None:
    async with tls_receiver(context) as (port, _):
        for name, right in [("logs.example.org", True), ("other.example.org", False)]:
            tls = {"ca_file": tmp_path / "ca.pem", "server_name": name}
            sink = make_sink(port, tls=tls)
            if right:
                await sink.open()
            else:
                with pytest.raises(NeedsOperatorError, match="certificate"):
                    await sink.open()
            await sink.aclose()


async def test_a_missing_client_certificate_needs_an_operator(
    context: ssl.SSLContext, tmp_path: Path
) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(_refuse_handshake, listener, context))
        tls = {"ca_file": tmp_path / "ca.pem"}
        sink = make_sink(listener.getsockname()[1], tls=tls)
        with pytest.raises(NeedsOperatorError) as caught:
            await sink.write(make_batch(1))
        await refusing
        await sink.aclose()

    assert "tls.cert_file" in caught.value.hint


async def test_a_port_without_tls_needs_an_operator() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sink = make_sink(server.sockets[0].getsockname()[1])

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
