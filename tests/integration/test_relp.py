"""The RELP sink against rsyslog's imrelp."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.relp import RelpSink
from forwarder.testing.destinations import deliver, deliver_at_last
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.network import ToxicProxy
from tests.integration.conftest import Start
from tests.integration.rsyslogd import Rsyslogd

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def running(start: Start[Rsyslogd], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rsyslogd]:
    folder = tmp_path_factory.mktemp("rsyslog")
    yield from start("rsyslog", lambda: Rsyslogd.run(folder))


@pytest.fixture
def server(running: Rsyslogd) -> Rsyslogd:
    running.forget()
    return running


def make_sink(port: int, **settings: Any) -> RelpSink:
    given = {"host": "127.0.0.1", "port": port, **settings}
    return RelpSink(RelpSink.Config.model_validate(given), sink_context())


async def test_twenty_thousand_messages_arrive_once_and_in_order(server: Rsyslogd) -> None:
    sink = make_sink(server.ports["relp"])
    await sink.open()
    started = time.monotonic()

    for first in range(0, 20_000, 4000):
        batches = [make_batch(1000, first_offset=first + 1000 * n) for n in range(4)]
        await asyncio.gather(*(deliver(sink, batch) for batch in batches))
    rate = 20_000 / (time.monotonic() - started)
    await sink.aclose()

    print(f"RELP into rsyslog: {rate:.0f} acknowledged messages a second")  # noqa: T201
    messages = [message["msg"] for message in server.wait_for(20_000)]
    assert messages == [make_event(n).body.decode() for n in range(20_000)]


async def test_the_header_is_understood(server: Rsyslogd) -> None:
    sink = make_sink(server.ports["relp"], hostname="host.example.org", facility="local3")
    event = make_event(1, account='a"b]c\\d')._replace(outcome="failure")

    await deliver(sink, batch_of([event]))
    await sink.aclose()
    [message] = server.wait_for(1)

    assert message["pri"] == str(19 * 8 + 5)
    assert message["timestamp"] == "2026-01-01T00:00:01.123456Z"
    assert message["host"] == "host.example.org"
    assert message["app"] == "cloudflare-access"
    assert message["msgid"] == "access_requests"
    assert r'account="a\"b\]c\\d"' in message["sd"]


async def test_the_largest_message_that_passes_our_limit_is_kept_whole(server: Rsyslogd) -> None:
    sink = make_sink(server.ports["relp"])
    [empty] = sink._lines.lines([make_event(1, body=b"")])  # noqa: SLF001 - to hit the limit exactly
    most = 8096 - len(empty)

    fits = await sink.write(batch_of([make_event(1, body=b"x" * most)]))
    over = await sink.write(batch_of([make_event(2, body=b"x" * (most + 1))]))
    await sink.aclose()

    assert not fits.rejected
    assert [rejection.offset for rejection in over.rejected] == [2]
    assert [len(message["msg"]) for message in server.wait_for(1)] == [most]


async def test_tls_with_a_client_certificate(server: Rsyslogd) -> None:
    sink = make_sink(server.ports["relp_tls"], tls=server.client_tls)

    await deliver(sink, make_batch(1000))
    await sink.aclose()

    assert len(server.wait_for(1000)) == 1000


async def test_without_a_client_certificate_the_error_says_what_may_be_missing(
    server: Rsyslogd,
) -> None:
    sink = make_sink(server.ports["relp_tls"], tls={"ca_file": server.client_tls["ca_file"]})

    with pytest.raises(TransientError) as caught:
        await sink.open()
    await sink.aclose()

    assert "tls.cert_file" in caught.value.hint


async def test_a_listener_that_speaks_something_else_is_named(server: Rsyslogd) -> None:
    sink = make_sink(
        server.ports["tls"], tls={"ca_file": server.client_tls["ca_file"]}, connect_timeout=2
    )

    with pytest.raises(TransientError):
        await sink.open()
    await sink.aclose()


async def test_a_network_that_breaks_costs_duplicates_and_no_event(server: Rsyslogd) -> None:
    with ToxicProxy(server.ports["relp"]) as proxy:
        sink = make_sink(proxy.port, window=64)
        for number in range(40):
            writing = asyncio.create_task(
                deliver_at_last(sink, make_batch(100, first_offset=100 * number))
            )
            await asyncio.sleep(0.001 * (number % 9))
            proxy.reset()
            await writing
        await sink.aclose()

    bodies = [make_event(n).body.decode() for n in range(4000)]
    assert set(server.wait_for_all(bodies)) == set(bodies)


async def test_a_restart_of_the_receiver_is_survived(server: Rsyslogd) -> None:
    sink = make_sink(server.ports["relp"])
    await deliver(sink, make_batch(100))
    await asyncio.to_thread(server.stop)

    with pytest.raises(TransientError) as caught:
        await sink.write(make_batch(100, first_offset=100))
    await asyncio.to_thread(server.start)
    await sink.open()
    await deliver(sink, make_batch(100, first_offset=100))
    await sink.aclose()

    assert not isinstance(caught.value, NeedsOperatorError)
    bodies = [make_event(n).body.decode() for n in range(200)]
    assert set(server.wait_for_all(bodies)) == set(bodies)
