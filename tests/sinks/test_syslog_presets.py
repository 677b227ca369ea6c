"""A preset sets transport, framing, header and format, and every key can still be set."""

import asyncio
from typing import Any

import pytest

from forwarder.core.errors import TransientError
from forwarder.core.telemetry import SentUnconfirmed, TelemetryEvent
from forwarder.sinks.syslog import SyslogSink
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from forwarder.testing.network import free_port


def config(**settings: Any) -> Any:
    return SyslogSink.Config.model_validate({"host": "siem", **settings})


@pytest.mark.parametrize(
    ("preset", "transport", "port", "framing", "rfc", "output"),
    [
        ("qradar", "tls", 6514, "lf", "3164", "leef"),
        ("arcsight", "tcp", 514, "lf", "3164", "cef"),
        ("sc4s", "tcp", 601, "octet_counting", "5424", "cef"),
        ("sentinel", "tcp", 514, "lf", "3164", "cef"),
        ("rsyslog", "tcp", 514, "octet_counting", "5424", "ocsf"),
        ("syslog_ng", "tcp", 601, "octet_counting", "5424", "ocsf"),
    ],
)
def test_a_preset_fits_its_receiver(
    preset: str, transport: str, port: int, framing: str, rfc: str, output: str
) -> None:
    found = config(preset=preset)

    assert (found.transport, found.port, found.framing, found.rfc) == (
        transport,
        port,
        framing,
        rfc,
    )
    assert SyslogSink.format_for({"preset": preset}) == output


def test_what_is_set_goes_before_the_preset() -> None:
    found = config(preset="qradar", transport="tcp", port=5140, rfc=5424)

    assert (found.transport, found.port, found.rfc) == ("tcp", 5140, "5424")


def test_without_a_preset_it_is_rfc_5424_over_tls() -> None:
    found = config()

    assert (found.transport, found.framing, found.rfc) == ("tls", "octet_counting", "5424")
    assert found.addresses(found.default_port) == [("siem", 6514)]
    assert found.max_message_bytes == 8096
    assert SyslogSink.format_for({}) == "cef"


def test_udp_takes_what_the_rfc_recommends() -> None:
    assert config(transport="udp").max_message_bytes == 2048


def test_receivers_are_read_with_and_without_ports() -> None:
    found = config(host=None, hosts=["a", "b:1514", "[::1]:2514"], transport="tcp")

    assert found.addresses(514) == [("a", 514), ("b", 1514), ("::1", 2514)]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"facility": "local8"}, "no facility; known are kern"),
        ({"severity": {"success": "fine"}}, "no severity: fine"),
        ({"hosts": ["b"]}, "set host, or hosts"),
        ({"host": None}, "set host, or hosts"),
        ({"host": None, "hosts": ["a b"]}, "is no address"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        config(**settings)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        del addr
        self.received.append(data)


def udp_sink(port: int, emit: Any = None) -> SyslogSink:
    settings = config(host="127.0.0.1", port=port, transport="udp")
    return SyslogSink(settings, sink_context(emit=emit or (lambda _: None)))


async def test_over_udp_each_message_is_a_datagram_and_that_is_reported() -> None:
    reported: list[TelemetryEvent] = []
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0)
    )
    sink = udp_sink(transport.get_extra_info("sockname")[1], reported.append)

    await sink.open()
    result = await sink.write(batch_of([*make_batch(5).events, make_event(9, body=b"x" * 3000)]))
    await asyncio.sleep(0.05)
    await sink.aclose()
    transport.close()

    assert len(receiver.received) == 5
    assert receiver.received[0].startswith(b"<86>1 2026-01-01T00:00:00.123456Z ")
    assert [rejection.offset for rejection in result.rejected] == [9]
    assert reported == [SentUnconfirmed("test", 5)]


async def test_a_udp_port_nobody_listens_at_is_noticed_by_a_later_write() -> None:
    sink = udp_sink(free_port())

    await sink.write(make_batch(1))
    await asyncio.sleep(0.05)

    with pytest.raises(TransientError, match="a datagram was refused"):
        await sink.write(make_batch(1))
    await sink.aclose()


async def test_diagnosing_names_what_weakens_delivery() -> None:
    sink = udp_sink(free_port())

    [finding] = await sink.diagnose()
    await sink.aclose()

    assert (finding.level, finding.subject) == ("warning", "transport")
    assert "best effort" in finding.text
