"""How many files a reader has to open to follow one login from the answer to the SIEM."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from aiohttp import web

import forwarder
from forwarder.core.contracts import SinkContext, StreamKey
from forwarder.core.journal import Keeping
from forwarder.core.log import DeadLetter, Progress
from forwarder.core.source_contract import SourceContext
from forwarder.core.telemetry import ignore
from forwarder.core.timing import SystemClock, format_us
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.formats.pipeline import Pipeline
from forwarder.ingest.events import RoundEnded
from forwarder.ingest.poller import Poller
from forwarder.ingest.rounds import Gate, StreamContext
from forwarder.ingest.windows import PollOptions
from forwarder.journal.sqlite import SqliteJournal
from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    DEFAULT_TOKEN,
    Simulator,
    SimulatorSettings,
)
from forwarder.sinks.http import HttpSink, HttpSinkConfig
from forwarder.sources.cloudflare_access import CloudflareAccess
from forwarder.sources.cloudflare_access.account import AccountConfig
from forwarder.testing.samples import LOGIN
from forwarder.transport.settings import Secret

MOST_FILES = 40
ANSWERED = "sources/cloudflare_access/answers.py"
OUTSIDE = ("simulator/", "core/telemetry.py")
PACKAGE = f"{forwarder.__path__[0]}/"


class Way:
    """Collects the files of the package that are entered from the first answer on.

    It has to exist before any thread starts: a thread takes its profiler along from there.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._watching = False
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def begin(self) -> None:
        self._watching = True

    def pause(self) -> None:
        self._watching = False

    def end(self) -> None:
        self.pause()
        threading.setprofile(None)
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if not self._watching or event != "call" or not path.startswith(PACKAGE):
            return
        inside = path.removeprefix(PACKAGE)
        if inside == ANSWERED or (self.files and not inside.startswith(OUTSIDE)):
            self.files.add(inside)


class Acknowledged:
    """A sink's place in the journal that says when what was received is acknowledged."""

    def __init__(self, queue: Any, way: Way, received: asyncio.Event) -> None:
        self._queue = queue
        self._way = way
        self._received = received
        self.done = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        await self._queue.acknowledge(lane, progress, dead)
        if self._received.is_set():
            self._way.pause()
            self.done.set()


async def _nothing_undelivered() -> int:
    return 0


async def _way_of_one_login(folder: Path) -> set[str]:
    """Let logins through poller, journal, consumer and the HTTP sink; return the files of one."""
    way, clock, level, received = Way(), SystemClock(), asyncio.Event(), asyncio.Event()
    settings = SimulatorSettings(rate=0.0, history=60)
    async with Simulator(settings) as simulator, destination(received) as url:
        config = AccountConfig(
            account_id=DEFAULT_ACCOUNT, api_token=Secret(DEFAULT_TOKEN), api_url=simulator.url
        )
        plugin = CloudflareAccess(config, SourceContext(clock, CloudflareAccess.share(clock, None)))
        journal = await SqliteJournal.open(folder, Keeping(2**30, 0), clock=clock, emit=ignore)
        around = StreamContext(
            key=StreamKey(DEFAULT_ACCOUNT, ACCESS_REQUESTS),
            account="acme",
            source=plugin.streams()[ACCESS_REQUESTS].source,
            log=journal.stream_log(StreamKey(DEFAULT_ACCOUNT, ACCESS_REQUESTS)),
            gate=Gate(2**40, _nothing_undelivered, clock, ignore),
            clock=clock,
            rng=Random(1),
            emit=lambda event: level.set() if isinstance(event, RoundEnded) else None,
            beat=lambda: None,
            retention=86_400.0,
        )
        queue = Acknowledged(await journal.sink_queue("siem"), way, received)
        consumer = Consumer(
            name="siem",
            sink=HttpSink(
                HttpSinkConfig.model_validate({"url": url}),
                SinkContext("siem", "ocsf", "application/json", clock),
            ),
            queue=queue,
            render=Pipeline(
                OcsfFormat(OcsfConfig()), plugin.normalisers, {DEFAULT_ACCOUNT: "acme"}
            ),
            options=DeliveryOptions(max_wait=0.0),
            clock=clock,
            rng=Random(1),
        )
        poller = Poller(around, PollOptions(0.5, 60.0, 30.0, ()))
        running = [asyncio.create_task(work) for work in (poller.run(), consumer.run())]
        try:
            await asyncio.wait_for(level.wait(), 10)
            # The first login of its shape goes a longer way once: its template is learned.
            for watched in (False, True):
                received.clear()
                queue.done.clear()
                if watched:
                    way.begin()
                simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, login(clock.now_us()))
                await asyncio.wait_for(queue.done.wait(), 10)
        finally:
            way.end()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await plugin.aclose()
            await journal.aclose()
    return way.files


@asynccontextmanager
async def destination(received: asyncio.Event) -> AsyncIterator[str]:
    """Accept everything, and set ``received`` when the login came: own events come, too."""

    async def accept(request: web.Request) -> web.Response:
        if LOGIN["ray_id"].encode() in await request.read():
            received.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/in", accept)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    finally:
        await runner.cleanup()


def login(now_us: int) -> dict[str, Any]:
    """A login as Cloudflare documents it, that happened now."""
    return {**LOGIN, "created_at": format_us(now_us)}


def _files_of_one_login(folder: Path) -> set[str]:
    return asyncio.run(_way_of_one_login(folder))


def test_a_login_takes_few_files_from_the_answer_to_the_acknowledgement(tmp_path: Path) -> None:
    # In a process of its own: what other tests have left behind in this one would be counted, too.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        files = alone.submit(_files_of_one_login, tmp_path).result()

    assert "delivery/consumer.py" in files
    assert len(files) <= MOST_FILES, " ".join(sorted(files))
