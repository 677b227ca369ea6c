"""``python -m bench.ratios``: what a row costs in one process, beside orjson; what tests watch.

Figures are CPU time over CPU time, each the least of several turns that take turns, so they
hardly depend on the machine or on what else it does. ``RECORDED`` has what they were; a test fails
when one has doubled. After something became faster, write down what this prints.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from bench import formats
from bench.cloudflare import History, envelope
from forwarder.core.contracts import LIVE, StoredPage, StreamKey, Window
from forwarder.core.journal import Keeping
from forwarder.core.log import Addition, ReaderState, StreamLog
from forwarder.core.timing import SystemClock
from forwarder.formats.pipeline import Pipeline
from forwarder.journal.sqlite import SqliteJournal
from forwarder.sources.cloudflare_access.account import AccessRequestsConfig, AccountConfig
from forwarder.sources.cloudflare_access.answers import Answer, Endpoint, Response, read_rows
from forwarder.sources.cloudflare_access.login_mapping import LOGINS
from forwarder.sources.cloudflare_access.logs import AccessRequests

RECORDED = {
    "raw": 1.7,
    "ocsf": 5.0,
    "ecs": 5.0,
    "cim": 5.0,
    "cef": 4.9,
    "leef": 4.9,
    "journal": 3.5,
}
ALARM = 2.0
"""A ratio that is so many times what it was is a fault of the code, not of the machine."""

_ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
_NOW_US = 1_790_000_000_000_000
_ROWS, _PAGES, _ROUNDS = 2000, 16, 4
_SECONDS = 20
"""Seconds of rows on one page."""


Work = Callable[[StoredPage], object]


class PageApi:
    """Stands for ``sources.cloudflare_access.api.Api``: answers with bytes that are there."""

    def __init__(self) -> None:
        """Hold no answer yet."""
        self.body = b""

    async def get(self, endpoint: Endpoint, *_: Any, **__: Any) -> Answer:
        """Read the answer as the real one does."""
        return read_rows(Response(200, {}, self.body), endpoint, _NOW_US)


def rendering(rounds: int = _ROUNDS) -> dict[str, float]:
    """Return, for each format, page → the sink's events over orjson of the same rows."""
    pages = formats.pages(AccessRequests.stream, list(formats.usual(_ROWS)), 250)
    pipelines: dict[str, Work] = {
        name: Pipeline(style, {AccessRequests.stream: LOGINS}, {})
        for name, style in formats.formats().items()
    }
    least: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, work in ({"": _round_trips} | pipelines).items():
            costs = [_rendered(work, page) for page in pages]
            least[name] = list(map(min, costs, least.get(name, costs)))
    return {name: sum(least[name]) / sum(least[""]) for name in pipelines}


def _round_trips(page: StoredPage) -> None:
    for row in page.rows:
        orjson.dumps(row)


def _rendered(work: Work, page: StoredPage) -> float:
    """Return the CPU seconds of some work with a page that nobody has parsed yet."""
    page = replace(page)
    began = time.thread_time()
    work(page)
    return time.thread_time() - began


def storing(pages: int = _PAGES) -> float:
    """Return the API's answer → journal over orjson of the same answer."""
    return asyncio.run(_storing(pages))


async def _storing(pages: int) -> float:
    history, api = History(pages * _SECONDS * 50, _NOW_US), PageApi()
    config = AccountConfig.model_validate({"account_id": _ACCOUNT, "api_token": "token"})
    source = AccessRequests(api, config, AccessRequestsConfig())  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        keeping, clock = Keeping(2**30, 0), SystemClock()
        journal = await SqliteJournal.open(Path(folder), keeping, clock=clock, emit=print)
        try:
            log = journal.stream_log(StreamKey(_ACCOUNT, AccessRequests.stream))
            await log.load()
            costs = []
            for page in range(pages):
                api.body = envelope(*history.page(0, page * _SECONDS * 50))
                costs.append((_baseline(api.body), await _stored(source, log)))
        finally:
            await journal.aclose()
    return min(stored for _, stored in costs) / min(base for base, _ in costs)


def _baseline(body: bytes) -> float:
    began = time.process_time()
    orjson.dumps(orjson.loads(body))
    return time.process_time() - began


async def _stored(source: AccessRequests, log: StreamLog) -> float:
    """Return the CPU seconds of one page, the writer's thread included."""
    began = time.process_time()
    page = await source.fetch(Window(0, _NOW_US), None)
    appended = await log.append(Addition(LIVE, ReaderState(0), _NOW_US, page.records))
    used = time.process_time() - began
    assert len(appended.new) == _SECONDS * 50
    return used


def measured() -> Mapping[str, float]:
    """Return every ratio by its name, as in ``RECORDED``."""
    return {**rendering(), "journal": storing()}


def slower(
    attempts: int, measure: Callable[[], Mapping[str, float]] = measured
) -> dict[str, float]:
    """Return the ratios that have doubled in each of so many attempts, with the least of each.

    Other work on the machine can only add to a figure, so one good attempt is enough.
    """
    least: dict[str, float] = {}
    found: dict[str, float] = {}
    for _ in range(attempts):
        for name, ratio in measure().items():
            least[name] = min(ratio, least.get(name, ratio))
        found = {name: ratio for name, ratio in least.items() if ratio > ALARM * RECORDED[name]}
        if not found:
            break
    return found


def main() -> None:
    """Print what is measured beside what was recorded."""
    for name, ratio in measured().items():
        print(f"{name:8} {ratio:6.2f}  recorded {RECORDED[name]:6.2f}")


if __name__ == "__main__":
    main()
