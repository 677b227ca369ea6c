"""The daemon against real receivers behind a network that fails, killed three times: none missing.

Over syslog the window of what may not have been read lives in memory. So a kill comes only when the
network has been quiet for some seconds; what both at once can cost is in the documentation.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from forwarder.testing.network import ToxicProxy
from tests.end_to_end.processes import Cloudflare, Forwarder, cloudflare, rows_of, until
from tests.integration.conftest import ABANDONED, Start
from tests.integration.kafka.server import KafkaServer, kafka_server
from tests.integration.rsyslogd import Rsyslogd
from tests.integration.syslog_ng import SyslogNg
from tests.integration.syslog_server import SyslogServer
from tests.sinks.fakes_stream.brokers import create_topic, read_all

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("abandoned"),
    ABANDONED,
]
_EVENTS = 20_000
_FAULTS = ("reset", "refuse", "hold", "delay")
_QUIET = 3.0
_PODS_GRACE = 30.0
"""After which Kubernetes kills, unless told otherwise; the forwarder allows itself 25 s."""
_SLOWLY = "format: raw, batch: { max_events: 20 }, max_in_flight: 2"
"""Small batches, so that the faults meet the backlog and not an idle sink."""


@pytest.fixture
def proxy() -> Iterator[ToxicProxy]:
    with ToxicProxy() as proxy:
        yield proxy


async def fault_run(
    folder: Path, sink: str, proxy: ToxicProxy, arrived: Callable[[], list[dict[str, Any]]]
) -> Counter[bytes]:
    """Deliver everything a simulated Cloudflare shows; return how often each row arrived.

    Fails when a row that was shown before the end is missing five minutes later.
    """
    rng = Random(6)
    async with cloudflare("--rate", "25", "--scim-rate", "3", "--history", "15m") as api:
        forwarder = Forwarder(folder, api.url)
        with_sink = forwarder.settings.read_text().replace(
            "console: { type: stdout, format: raw }", sink
        )
        forwarder.settings.write_text(with_sink)
        await forwarder.start()
        try:
            for kinds in (_FAULTS, _FAULTS, _FAULTS, ()):
                await forwarder.admin_url()
                for kind in rng.sample(kinds, len(kinds)):
                    await asyncio.sleep(rng.uniform(0.2, 0.5))
                    await _disturb(proxy, kind, rng)
                if kinds:
                    await _delivering_again(forwarder)
                    await asyncio.sleep(_QUIET)
                    await forwarder.kill()
                    await forwarder.start()
            await _all_there(api, arrived)
            assert await forwarder.stop() == 0
        finally:
            await forwarder.kill()
        return rows_of(await asyncio.to_thread(arrived))


async def _delivering_again(forwarder: Forwarder) -> None:
    """Return when a batch has been acknowledged since now."""
    since = datetime.now(UTC)
    url = await forwarder.admin_url()
    async with ClientSession() as http:

        async def acknowledged() -> bool:
            async with http.get(url + "/status") as answer:
                (sink,) = (await answer.json())["sinks"]
            return (
                bool(sink["last_success"]) and datetime.fromisoformat(sink["last_success"]) > since
            )

        await until(acknowledged, 120)


async def _disturb(proxy: ToxicProxy, kind: str, rng: Random) -> None:
    """Let one thing go wrong for a while; every kind ends with reset connections."""
    if kind == "refuse":
        proxy.refuse()
    proxy.hold = kind == "hold"
    proxy.delay = 0.02 if kind == "delay" else 0
    for _ in range(3):
        await asyncio.sleep(rng.uniform(0.1, 0.4))
        proxy.reset()
    proxy.hold, proxy.delay = False, 0
    proxy.accept()


async def _all_there(api: Cloudflare, arrived: Callable[[], list[dict[str, Any]]]) -> None:
    shown = await api.shown()

    async def none_missing() -> bool:
        rows = rows_of(await asyncio.to_thread(arrived))
        return not shown.keys() - rows.keys()

    await until(none_missing, 300)


def emit(name: str, found: Counter[bytes], proxy: ToxicProxy) -> None:
    again, links = found.total() - len(found), proxy.connections
    print(f"{name}: {len(found)} rows, none missing, {again} again, {links} connections")  # noqa: T201
    assert len(found) >= _EVENTS


def _records(server: KafkaServer) -> list[dict[str, Any]]:
    return [orjson.loads(record.value()) for record in read_all(server.address, "access")]


def _messages(server: SyslogServer) -> list[dict[str, Any]]:
    return [orjson.loads(text) for text in server.texts()]


async def test_kafka(
    start: Start[KafkaServer], proxy: ToxicProxy, tmp_path: Path, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("kafka")
    for server in start("Apache Kafka", lambda: kafka_server(folder, proxy.port)):
        proxy.upstream = server.toxic_port
        create_topic(server.address, "access")
        sink = (
            f"console: {{ type: kafka, {_SLOWLY}, bootstrap_servers: ['127.0.0.1:{proxy.port}'],"
            " topic: access, request_timeout: 3s }"
        )
        arrived = partial(_records, server)

        emit("Kafka", await fault_run(tmp_path, sink, proxy, arrived), proxy)


async def test_relp(
    start: Start[Rsyslogd], proxy: ToxicProxy, tmp_path: Path, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("rsyslog")
    for server in start("rsyslog", lambda: Rsyslogd.run(folder)):
        proxy.upstream = server.ports["relp"]
        sink = f"console: {{ type: relp, {_SLOWLY}, host: 127.0.0.1, port: {proxy.port} }}"
        arrived = partial(_messages, server)

        emit("RELP", await fault_run(tmp_path, sink, proxy, arrived), proxy)


async def test_syslog_over_tls(
    start: Start[SyslogNg], proxy: ToxicProxy, tmp_path: Path, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("syslog-ng")
    for server in start("syslog-ng", lambda: SyslogNg.run(folder)):
        proxy.upstream = server.ports["tls"]
        tls = ", ".join(f"{name}: {path}" for name, path in server.client_tls.items())
        sink = (
            f"console: {{ type: syslog, {_SLOWLY}, host: 127.0.0.1, port: {proxy.port},"
            f" tls: {{ {tls} }} }}"
        )
        arrived = partial(_messages, server)

        emit("syslog over TLS", await fault_run(tmp_path, sink, proxy, arrived), proxy)


@pytest.mark.parametrize("kind", ["refuse", "hold", "swallow"])
async def test_stopping_while_brokers_are_away_keeps_to_the_grace_period(
    kind: str, start: Start[KafkaServer], proxy: ToxicProxy, tmp_path: Path, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("kafka")
    for server in start("Apache Kafka", lambda: kafka_server(folder, proxy.port)):
        proxy.upstream = server.toxic_port
        create_topic(server.address, "access")
        async with cloudflare("--rate", "50", "--history", "1m") as api:
            forwarder = Forwarder(tmp_path, api.url)
            sink = (
                "console: { type: kafka, format: raw, topic: access,"
                f" bootstrap_servers: ['127.0.0.1:{proxy.port}'] }}"
            )
            settings = forwarder.settings.read_text()
            forwarder.settings.write_text(
                settings.replace("console: { type: stdout, format: raw }", sink)
            )
            await forwarder.start()
            try:
                await until(partial(_records, server))
                if kind == "refuse":
                    proxy.refuse()
                proxy.hold, proxy.swallow = kind == "hold", kind == "swallow"
                await asyncio.sleep(2)
                began = time.monotonic()
                await forwarder.stop(wait=_PODS_GRACE)
                took = time.monotonic() - began
                print(f"{kind}: stopped after {took:.1f} s")  # noqa: T201
            finally:
                await forwarder.kill()
                proxy.hold = proxy.swallow = False
