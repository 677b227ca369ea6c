"""A collector receives a span for what took time; without settings nothing is even imported."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from forwarder.core.timing import SystemClock
from forwarder.delivery.events import SinkOpened, WriteFailed
from forwarder.ingest.events import PageStored
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import Observer
from forwarder.observe.output import LogOutput, Redactor
from forwarder.observe.tracing import Tracing
from forwarder.sources.cloudflare_access.events import RequestMade

REQUEST = RequestMade("acme", "access_requests", "2xx", 0.25, 1.5, None)
STORED = PageStored("acme", "access_requests", "live", 10, 7, 0, 0, 0, (), 0.004, 0)
FAILED = WriteFailed("splunk", "live", "timeout", 500, "no answer in time", "", 90_000, 30.0)


@dataclass
class Collector:
    """Takes OTLP over HTTP."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield made
    await runner.cleanup()


def observer(url: str, ratio: float = 1.0) -> Observer:
    output, clock = LogOutput(io.StringIO(), Redactor()), SystemClock()
    return Observer(Metrics(), output, clock, Tracing(url, ratio, "1.2.3", clock.now_us))


async def test_what_took_time_is_a_span_with_its_duration_and_names(collector: Collector) -> None:
    traced = observer(collector.url)
    for event in (REQUEST, STORED, FAILED, SinkOpened("splunk", 0.1)):
        traced.emit(event)
    await asyncio.to_thread(traced.close)

    seconds = {
        span.name: round((span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, 3)
        for span in collector.spans
    }
    assert seconds == {"poll": 0.25, "append": 0.004, "deliver": 30.0}
    failed = collector.spans[2]
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "timeout")
    assert {one.key for one in failed.attributes} == {
        f"forwarder.{key}" for key in ("sink", "lane", "events", "bytes")
    }


async def test_a_share_of_nothing_sends_nothing(collector: Collector) -> None:
    traced = observer(collector.url, ratio=0.0)
    traced.emit(REQUEST)
    await asyncio.to_thread(traced.close)

    assert collector.spans == []


async def test_a_collector_that_is_out_stops_nobody_and_the_end_comes_soon() -> None:
    traced = observer("http://127.0.0.1:9/v1/traces")
    traced.emit(REQUEST)
    async with asyncio.timeout(60):
        await asyncio.to_thread(traced.close)


def test_nothing_of_it_is_imported_by_a_daemon_without_tracing() -> None:
    code = (
        "import sys; import forwarder.runtime.daemon;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout

    assert printed.strip() == "[]"
