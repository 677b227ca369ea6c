"""``python -m bench.journals``: the journal's engines in turns, in one process; prints a table.

Both have their files in memory, if the system has such a folder: what is compared is the way to
the engine, not disks. PostgreSQL runs beside it on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median

import psycopg
from psycopg.conninfo import make_conninfo

from bench.calibration import calibrate
from forwarder.core.contracts import LIVE
from forwarder.core.journal import Journal, Keeping
from forwarder.core.log import Addition, Progress, SinkQueue
from forwarder.core.telemetry import ignore
from forwarder.core.timing import SystemClock
from forwarder.journal.sqlite import SqliteJournal
from forwarder.testing.journal_contract import addition, records
from forwarder.testing.journal_crash import NOON_US
from forwarder.testing.journal_model import KEY
from forwarder.testing.network import ToxicProxy
from tests.integration.postgres_opener import PostgresOpener
from tests.integration.postgresql import Postgresql, memory_folder

Opened = Callable[[], AbstractAsyncContextManager[Journal]]

_ROWS = 1000
_SINKS = ("a", "b", "c")
_READ = 2000
_ROUND_TRIP = 0.001
_HEAD = """
| journal | append, pages/s | p50 of a page, ms | fan-out to 3 sinks, rows/s | round trip, ms |
|---|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: pages a second, milliseconds of the median page, rows a second."""

    pages: float
    page_ms: float
    rows: float


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=200, help="of 1,000 rows")
    parser.add_argument("--runs", type=int, default=5, help="of each engine, in turns")
    given = parser.parse_args()
    with ExitStack() as stack:
        server = stack.enter_context(Postgresql.run())
        _sync(server)
        wire = stack.enter_context(ToxicProxy(server.port))
        wire.answers_only, wire.delay = True, _ROUND_TRIP
        far = make_conninfo(server.dsn, port=wire.port)
        engines: dict[str, tuple[Opened, float | None]] = {
            "SQLite": (_sqlite, None),
            "PostgreSQL": (lambda: _postgresql(server.dsn), _round_trip_ms(server.dsn)),
            "PostgreSQL, 1 ms away": (lambda: _postgresql(far), _round_trip_ms(far)),
        }
        runs: dict[str, list[Run]] = {name: [] for name in engines}
        for _ in range(given.runs):
            for name, (opened, _) in engines.items():
                runs[name].append(asyncio.run(_measured(opened, given.pages)))
        print(calibrate())
        print(f"medians of {given.runs} runs, each of {given.pages} pages of {_ROWS} rows")
        print(_HEAD)
        for name, (_, trip) in engines.items():
            print(_line(name, runs[name], trip))


def _line(name: str, runs: Sequence[Run], trip: float | None) -> str:
    pages, page_ms = (median(getattr(run, what) for run in runs) for what in ("pages", "page_ms"))
    rows = median(run.rows for run in runs)
    shown = "" if trip is None else f"{trip:.2f}"
    return f"| {name} | {pages:,.0f} | {page_ms:.1f} | {rows:,.0f} | {shown} |"


async def _measured(opened: Opened, count: int) -> Run:
    """Append pages of new rows, then let three sinks read and acknowledge all of them."""
    pages = [
        addition(records(*range(NOON_US + n, NOON_US + n + _ROWS), first=n))
        for n in range(0, count * _ROWS, _ROWS)
    ]
    async with opened() as journal:
        queues = [await journal.sink_queue(name) for name in _SINKS]
        took = [await _appended(journal, page) for page in pages]
        began = time.perf_counter()
        await asyncio.gather(*(_drained(queue, count * _ROWS) for queue in queues))
        drained = time.perf_counter() - began
    return Run(count / sum(took), median(took) * 1e3, count * _ROWS / drained)


async def _appended(journal: Journal, page: Addition) -> float:
    began = time.perf_counter()
    await journal.stream_log(KEY).append(page)
    return time.perf_counter() - began


async def _drained(queue: SinkQueue, count: int) -> None:
    at = 1
    while at <= count:
        pages = await queue.read(LIVE, at, _READ)
        at = pages[-1].end_offset
        await queue.acknowledge(LIVE, Progress(at))


@asynccontextmanager
async def _sqlite() -> AsyncIterator[Journal]:
    with memory_folder() as folder:
        keeping, clock = Keeping(2**40, 0), SystemClock()
        journal = await SqliteJournal.open(folder, keeping, clock=clock, emit=ignore, patience=0.0)
        yield journal
        await journal.aclose()


@asynccontextmanager
async def _postgresql(dsn: str) -> AsyncIterator[Journal]:
    opener, keeping = PostgresOpener(dsn), Keeping(2**40, 0)
    journal = await opener.open(
        keeping, clock=SystemClock(), emit=ignore, wrap=lambda session: session
    )
    yield journal
    await journal.aclose()
    opener.discard()


def _sync(server: Postgresql) -> None:
    """Let the server of the tests wait for its log as SQLite does, which it need not otherwise."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = on")
        connection.execute("SELECT pg_reload_conf()")


def _round_trip_ms(dsn: str) -> float:
    with psycopg.connect(dsn, autocommit=True) as connection:
        took = []
        for _ in range(200):
            began = time.perf_counter()
            connection.execute("SELECT 1")
            took.append(time.perf_counter() - began)
    return median(took) * 1e3


if __name__ == "__main__":
    main()
