"""The syslog sink against rsyslog and syslog-ng."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from forwarder.core.errors import NeedsOperatorError, TransientError
from forwarder.sinks.syslog import SyslogSink
from forwarder.testing.destinations import deliver, deliver_at_last
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.network import ToxicProxy
from tests.integration.conftest import Start
from tests.integration.rsyslogd import Rsyslogd
from tests.integration.syslog_ng import SyslogNg

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def rsyslog_running(
    start: Start[Rsyslogd], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rsyslogd]:
    folder = tmp_path_factory.mktemp("rsyslog")
    yield from start("rsyslog", lambda: Rsyslogd.run(folder))


@pytest.fixture
def rsyslog(rsyslog_running: Rsyslogd) -> Rsyslogd:
    rsyslog_running.forget()
    return rsyslog_running


@pytest.fixture
def syslogng(start: Start[SyslogNg], tmp_path_factory: Any) -> Iterator[SyslogNg]:
    folder = tmp_path_factory.mktemp("syslog-ng")
    yield from start("syslog-ng", lambda: SyslogNg.run(folder))


def make_sink(port: int, **settings: Any) -> SyslogSink:
    given = {"host": "127.0.0.1", "port": port, "transport": "tcp", **settings}
    return SyslogSink(SyslogSink.Config.model_validate(given), sink_context())


def bodies(count: int) -> list[str]:
    return [make_event(n).body.decode() for n in range(count)]


@pytest.mark.parametrize("framing", ["octet_counting", "lf"])
async def test_rsyslog_reads_both_framings(rsyslog: Rsyslogd, framing: str) -> None:
    sink = make_sink(rsyslog.ports["tcp"], framing=framing)

    for first in range(0, 5000, 1000):
        await deliver(sink, make_batch(1000, first_offset=first))
    await sink.aclose()

    assert [message["msg"] for message in rsyslog.wait_for(5000)] == bodies(5000)


async def test_rsyslog_over_tls_with_a_client_certificate(rsyslog: Rsyslogd) -> None:
    sink = make_sink(rsyslog.ports["tls"], transport="tls", tls=rsyslog.client_tls)

    for first in range(0, 5000, 1000):
        await deliver(sink, make_batch(1000, first_offset=first))
    await sink.aclose()

    assert [message["msg"] for message in rsyslog.wait_for(5000)] == bodies(5000)


async def test_rsyslog_reads_rfc_3164_and_the_prefix_of_cef_readers(rsyslog: Rsyslogd) -> None:
    event = make_event(1, body=b"CEF:0|Cloudflare|Access|1|login|x|3|act=allow")
    for settings in ({"rfc": "3164"}, {"preset": "arcsight"}):
        sink = make_sink(rsyslog.ports["tcp"], hostname="siem-in", **settings)
        await deliver(sink, batch_of([event]))
        await sink.aclose()

    found = sorted(rsyslog.wait_for(2), key=lambda message: message["app"])

    assert [message["host"] for message in found] == ["siem-in"] * 2
    assert [message["app"] for message in found] == ["CEF", "cloudflare-access"]
    assert found[0]["msg"].startswith("0|Cloudflare|Access|1|login")


async def test_rsyslog_takes_datagrams(rsyslog: Rsyslogd) -> None:
    sink = make_sink(rsyslog.ports["udp"], transport="udp")

    await deliver(sink, make_batch(50))
    await asyncio.sleep(0.3)
    await sink.aclose()

    assert {message["msg"] for message in rsyslog.wait_for(50)} == set(bodies(50))


async def test_syslog_ng_unescapes_what_we_escaped(syslogng: SyslogNg) -> None:
    event = make_event(1, account='a"b]c\\d é', body=b"two\nlines")
    sink = make_sink(syslogng.ports["tcp"])

    await deliver(sink, batch_of([event]))
    await sink.aclose()
    [message] = syslogng.wait_for(1)

    data = message["_SDATA"]["access@32473"]
    assert (data["account"], data["event_id"]) == (event.account, event.id)
    assert message["MESSAGE"] == "two\nlines"
    assert (message["PROGRAM"], message["MSGID"]) == ("cloudflare-access", "access_requests")
    assert (message["FACILITY"], message["PRIORITY"]) == ("authpriv", "info")


async def test_syslog_ng_reads_lines(syslogng: SyslogNg) -> None:
    sink = make_sink(syslogng.ports["lines"], framing="lf", bom=True)

    await deliver(sink, make_batch(1000))
    await sink.aclose()

    assert [message["MESSAGE"] for message in syslogng.wait_for(1000)] == bodies(1000)


async def test_syslog_ng_takes_messages_up_to_the_presets_limit(syslogng: SyslogNg) -> None:
    sink = make_sink(syslogng.ports["tcp"], preset="syslog_ng")
    sizes = [60_000, 70_000, 100]

    result = await sink.write(
        batch_of([make_event(n, body=b"x" * size) for n, size in enumerate(sizes)])
    )
    await sink.aclose()

    assert [rejection.offset for rejection in result.rejected] == [1]
    assert [len(message["MESSAGE"]) for message in syslogng.wait_for(2)] == [60_000, 100]


async def test_syslog_ng_refuses_us_without_a_certificate(syslogng: SyslogNg) -> None:
    tls = {"ca_file": syslogng.client_tls["ca_file"]}
    sink = make_sink(syslogng.ports["tls"], transport="tls", tls=tls)

    with pytest.raises(NeedsOperatorError) as caught:
        await sink.open()
    await sink.aclose()

    assert "tls.cert_file" in caught.value.hint


async def test_twenty_thousand_messages_over_tls(syslogng: SyslogNg) -> None:
    sink = make_sink(syslogng.ports["tls"], transport="tls", tls=syslogng.client_tls)
    await sink.open()
    started = time.monotonic()

    for first in range(0, 20_000, 4000):
        batches = [make_batch(1000, first_offset=first + 1000 * n) for n in range(4)]
        await asyncio.gather(*(deliver(sink, batch) for batch in batches))
    rate = 20_000 / (time.monotonic() - started)
    await sink.aclose()

    print(f"syslog over TLS into syslog-ng: {rate:.0f} messages a second")  # noqa: T201
    assert [message["MESSAGE"] for message in syslogng.wait_for(20_000)] == bodies(20_000)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_hundred_forced_closes_lose_nothing(syslogng: SyslogNg, transport: str) -> None:
    """A reset on the way throws away what is in flight; the window brings it again."""
    upstream = syslogng.ports["tls"] if transport == "tls" else syslogng.ports["tcp"]
    with ToxicProxy(upstream) as proxy:
        sink = make_sink(proxy.port, transport=transport, tls=syslogng.client_tls)
        for number in range(100):
            writing = asyncio.create_task(
                deliver_at_last(sink, make_batch(50, first_offset=50 * number))
            )
            await asyncio.sleep(0.0007 * (number % 13))
            proxy.reset()
            await writing
        await sink.aclose()

    found = syslogng.wait_for_all(bodies(5000))
    lost = set(bodies(5000)) - set(found)
    again = len(found) - len(set(found))
    print(f"{transport}: 100 resets, 5000 events, {len(lost)} lost, {again} again")  # noqa: T201
    assert not lost


async def test_without_a_window_resets_do_lose_events(syslogng: SyslogNg) -> None:
    """What plain TCP is like; were this to stop failing, the test above would prove nothing."""
    with ToxicProxy(syslogng.ports["tcp"]) as proxy:
        sink = make_sink(proxy.port, resend_window=0)
        proxy.delay = 0.005
        for number in range(100):
            await deliver_at_last(sink, make_batch(50, first_offset=50 * number))
            proxy.reset()
        await sink.aclose()

    lost = set(bodies(5000)) - set(syslogng.settled())
    print(f"without a window: {len(lost)} of 5000 lost in 100 resets")  # noqa: T201
    assert lost


async def test_a_restart_of_syslog_ng_loses_nothing(syslogng: SyslogNg) -> None:
    sink = make_sink(syslogng.ports["tls"], transport="tls", tls=syslogng.client_tls)
    await deliver(sink, make_batch(500))
    await asyncio.to_thread(syslogng.stop)
    await asyncio.sleep(0.1)

    with pytest.raises(TransientError):
        await sink.write(make_batch(500, first_offset=500))
    await asyncio.to_thread(syslogng.start)
    await deliver_at_last(sink, make_batch(500, first_offset=500))
    await sink.aclose()

    assert set(syslogng.wait_for_all(bodies(1000))) == set(bodies(1000))
