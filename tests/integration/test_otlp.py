"""The sinks for OTLP, Loki and Datadog against the OpenTelemetry Collector and VictoriaLogs."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from forwarder.core.contracts import Sink
from forwarder.core.errors import BatchTooLargeError
from forwarder.sinks.http import HttpSink
from forwarder.sinks.loki import LokiSink
from forwarder.sinks.otlp import OtlpSink
from forwarder.testing.destinations import deliver
from forwarder.testing.fake_sinks import batch_of, make_batch, make_event, sink_context
from tests.integration.conftest import Start
from tests.integration.go_programs import collector, victoria_logs

pytestmark = [pytest.mark.integration, pytest.mark.lengthy, pytest.mark.timeout(900)]

COUNT = 1000


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("GO_PROGRAMS") or tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def victoria(
    start: Start[str], programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("victoria")
    yield from start("VictoriaLogs", lambda: victoria_logs(folder, programs))


@pytest.fixture(scope="module")
def otelcol(
    start: Start[tuple[str, Path]], programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("collector")
    yield from start("OpenTelemetry Collector", lambda: collector(folder, programs))


def make(plugin: Any, **given: Any) -> Sink:
    sink: Sink = plugin(plugin.Config.model_validate(given), sink_context())
    return sink


async def delivered(sink: Sink, *, stream: str) -> set[str]:
    """Deliver a thousand events twice, and return their ids."""
    await sink.open()
    for _ in range(2):
        await deliver(sink, make_batch(COUNT, stream=stream))
    await sink.aclose()
    return {make_event(n, stream=stream).id for n in range(COUNT)}


async def stored(url: str, query: str, key: str) -> Counter[str]:
    """Return how often each value of ``key`` is in the rows that a query finds."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            form = {"query": query, "limit": "10000"}
            async with session.post(f"{url}/select/logsql/query", data=form) as answer:
                rows = [orjson.loads(line) for line in (await answer.read()).splitlines()]
            found = Counter(str(row.get(key)) for row in rows)
            if len(found) >= COUNT:
                return found
            await asyncio.sleep(0.5)


async def test_victorialogs_has_each_record_under_its_id(victoria: str) -> None:
    sink = make(OtlpSink, url=f"{victoria}/insert/opentelemetry")
    ids = await delivered(sink, stream="access_requests")

    found = await stored(victoria, "event.outcome:success", "log.record.uid")
    assert found == dict.fromkeys(ids, 2)


async def test_victorialogs_takes_what_loki_takes(victoria: str) -> None:
    sink = make(LokiSink, url=f"{victoria}/insert", labels={"job": "loki"})
    ids = await delivered(sink, stream="scim_updates")

    found = await stored(victoria, '{job="loki"}', "id")
    assert set(found) == ids


async def test_victorialogs_takes_what_datadog_takes(victoria: str) -> None:
    url = f"{victoria}/insert/datadog/api/v2/logs?ddsource=cloudflare_access&service=access"
    given = {"headers": {"DD-API-KEY": "k"}, "body": "array"}
    sink = make(HttpSink, url=url, **given)
    ids = [make_event(n, stream="forwarder").id for n in range(COUNT)]
    # It takes texts only, and wants a message; the format ecs has one.
    bodies = [b'{"message":"login","id":"%s"}' % one.encode() for one in ids]
    await deliver(sink, batch_of([make_event(n, body=body) for n, body in enumerate(bodies)]))
    await sink.aclose()

    found = await stored(victoria, "_msg:login", "id")
    assert found == dict.fromkeys(ids, 1)


async def test_the_collector_understands_every_record(otelcol: tuple[str, Path]) -> None:
    url, log = otelcol
    ids = await delivered(make(OtlpSink, url=url), stream="access_requests")

    text = await asyncio.to_thread(log.read_text)
    uids = Counter(re.findall(r"log.record.uid: Str\(([0-9a-f]{32})\)", text))
    assert uids == dict.fromkeys(ids, 2)
    assert text.count("EventName: cloudflare.access_requests") == 2 * COUNT
    assert text.count("SeverityNumber: Info(9)") == 2 * COUNT
    assert "service.name: Str(cloudflare-access)" in text


async def test_the_collector_says_400_where_others_say_413(otelcol: tuple[str, Path]) -> None:
    event = make_event(0, body=b'{"x":"%s"}' % (b"x" * 21 * 2**20))
    sink = make(OtlpSink, url=otelcol[0])
    with pytest.raises(BatchTooLargeError):
        await sink.write(batch_of([event]))
    await sink.aclose()
