"""A stream knows what has arrived, notices a close first, and names failures by what to do."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Iterator

import pytest

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.transport.stream import Endpoint, Stream, connect, explain


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


def endpoint(listener: socket.socket) -> Endpoint:
    return Endpoint("127.0.0.1", listener.getsockname()[1])


async def pair(listener: socket.socket) -> tuple[Stream, socket.socket]:
    stream = await connect(endpoint(listener))
    peer, _ = listener.accept()
    peer.settimeout(5)
    return stream, peer


def read_all(peer: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += peer.recv(1 << 16)
    return bytes(data)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is unacknowledged")
async def test_what_the_other_kernel_has_not_acknowledged_is_outstanding(
    listener: socket.socket,
) -> None:
    stream, peer = await pair(listener)
    data = b"x" * 20_000_000
    stream.write(data)
    await asyncio.sleep(0.05)
    settling = asyncio.create_task(stream.settled())
    await asyncio.sleep(0.05)

    assert stream.outstanding() > 0
    assert not settling.done()
    assert await asyncio.to_thread(read_all, peer, len(data)) == data
    await settling
    assert stream.outstanding() == 0
    stream.abort()
    peer.close()


@pytest.mark.parametrize("reset", [False, True])
async def test_nothing_counts_as_settled_on_a_connection_that_was_closed(
    listener: socket.socket, *, reset: bool
) -> None:
    """The first write after a close succeeds as far as the kernel is concerned."""
    stream, peer = await pair(listener)
    if reset:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()

    stream.write(b"x")

    with pytest.raises(TransientError):
        await stream.settled()
    stream.abort()


async def test_a_close_that_only_the_kernel_knows_of_yet_is_noticed_too(
    listener: socket.socket,
) -> None:
    """All is acknowledged, thrown away unread, and our loop has not heard of it."""
    stream, peer = await pair(listener)
    stream.write(b"x")
    while stream.outstanding():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    peer.close()

    with pytest.raises(TransientError):
        await stream.settled()
    stream.abort()


async def test_the_owner_is_told_once_when_the_other_side_goes(listener: socket.socket) -> None:
    told: list[TransientError] = []
    stream = await connect(endpoint(listener), on_lost=told.append)
    peer, _ = listener.accept()

    peer.close()
    await asyncio.sleep(0.02)
    stream.abort()

    assert [str(error) for error in told] == [f"{endpoint(listener)} closed the connection"]
    with pytest.raises(TransientError):
        stream.write(b"x")


async def test_ending_it_ourselves_tells_nobody(listener: socket.socket) -> None:
    told: list[TransientError] = []
    stream = await connect(endpoint(listener), on_lost=told.append)

    stream.abort()
    await asyncio.sleep(0.02)

    assert told == []


async def test_finishing_waits_until_the_other_side_has_read_everything(
    listener: socket.socket,
) -> None:
    stream, peer = await pair(listener)
    stream.write(b"x" * 1000)
    finishing = asyncio.create_task(stream.finish(5))
    await asyncio.sleep(0.02)

    assert not finishing.done()
    assert await asyncio.to_thread(read_all, peer, 1000) == b"x" * 1000
    peer.close()
    assert await finishing


async def test_finishing_says_when_the_rest_was_thrown_away(listener: socket.socket) -> None:
    stream, peer = await pair(listener)
    stream.write(b"x" * 1000)
    await stream.settled()
    finishing = asyncio.create_task(stream.finish(5))
    await asyncio.sleep(0.02)

    peer.close()  # with unread data: the kernel sends a reset

    assert not await finishing


async def test_finishing_gives_up_on_a_side_that_never_closes(listener: socket.socket) -> None:
    stream, peer = await pair(listener)

    assert await stream.finish(0.05)
    peer.close()


async def test_nobody_listening_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = endpoint(free)

    with pytest.raises(TransientError, match=r"127\.0\.0\.1:\d+: "):
        await connect(nobody)


async def test_a_handshake_that_is_not_answered_ends_in_time(listener: socket.socket) -> None:
    context = ssl.create_default_context()
    silent = Endpoint("127.0.0.1", listener.getsockname()[1], tls=context, connect_timeout=0.05)

    with pytest.raises(TransientError, match="does not answer in time"):
        await connect(silent)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (None, TransientError),
        (TimeoutError(), TransientError),
        (socket.gaierror(-2, "Name or service not known"), TransientError),
        (ConnectionResetError(104, "Connection reset by peer"), TransientError),
        (ssl.SSLCertVerificationError(1, "verify"), NeedsOperatorError),
    ],
)
def test_a_failure_is_named_by_what_to_do(
    reason: Exception | None, kind: type[TransientError]
) -> None:
    if isinstance(reason, ssl.SSLCertVerificationError):
        reason.verify_code, reason.verify_message = 18, "self-signed certificate"

    error = explain(Endpoint("::1", 6514), reason)

    assert type(error) is kind
    assert "[::1]:6514" in str(error)
