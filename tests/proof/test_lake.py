"""A bucket in SeaweedFS: no kill loses a row or shows half an object, no stall delays a sink."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from forwarder.testing.network import ToxicProxy
from tests.proof.books import Book
from tests.proof.destinations import HecBook
from tests.proof.ledger import Ledger
from tests.proof.sinks import hec
from tests.proof.site import Books, missing, quick, site
from tests.proof.test_crashes import RANDOM, one_life
from tests.sinks.object_store.lake import query, rows_of, unpacked
from tests.sinks.object_store.seaweed import PROGRAM, S3Server, seaweed

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="no wheel for this platform")

KILLS = 50
FORMATS = {"lines": "ndjson", "columns": "parquet"}
MOMENTS = (
    "sink opened",
    "page committed",
    "rows and position before commit",
    "answer received",
    "offset goes in",
    "offset before commit",
    "offset stored",
    RANDOM,
    RANDOM,
    RANDOM,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


class Bucket:
    """What is in the bucket; each object is read once, and must be whole when it is listed."""

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self.objects: dict[str, bytes] = {}

    def look(self) -> None:
        """Read what is new; half an object cannot be read."""
        for name, body in self._server.objects().items():
            if name in self.objects:
                assert self.objects[name] == body, f"{name} has changed"
            else:
                events_in(name, body)
                self.objects[name] = body

    def book(self, sink: str) -> Book:
        """Return what one sink has written."""
        self.look()
        book = Book()
        for name, body in self.objects.items():
            for event in events_in(name, body) if name.startswith(f"{sink}/") else ():
                book.note(event)
        return book

    def books(self) -> Books:
        return {sink: lambda sink=sink: self.book(sink) for sink in FORMATS}  # type: ignore[misc]

    def save(self, folder: Path) -> None:
        for name, body in self.objects.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(body)


def events_in(name: str, body: bytes) -> list[Any]:
    if name.endswith(".parquet"):
        return [orjson.loads(row["event"]) for row in rows_of(body)]
    return [orjson.loads(line) for line in unpacked(name, body).splitlines()]


def lake(server: S3Server, sink: str, **more: Any) -> dict[str, Any]:
    """Return the settings of a sink with small batches, so that kills meet many."""
    given = server.settings(url=f"s3://{server.bucket}/{sink}", file_format=FORMATS[sink])
    batch = {"max_events": 200, "max_wait": "300ms"}
    return quick({"type": "object_store", "format": "raw", "batch": batch, **given, **more})


@pytest.mark.timeout(900)
async def test_no_kill_loses_a_row_or_shows_half_an_object(
    server: S3Server, tmp_path: Path, ledger: Ledger
) -> None:
    bucket, rng, where = Bucket(server), Random(KILLS), Counter[str]()
    sinks = {sink: lake(server, sink) for sink in FORMATS}
    options = ("--rate", "25", "--scim-rate", "3", "--history", "10m")
    async with site(tmp_path, sinks, *options) as daemon:
        for _, point in zip(range(KILLS), cycle(MOMENTS), strict=False):
            where[await one_life(daemon, None, point, rng)] += 1
            await asyncio.to_thread(bucket.look)
        await daemon.start()
        await daemon.running()
        shown, seconds = await daemon.settled(bucket.books(), 120)
        assert await daemon.stop() == 0
        bucket.look()
        bucket.save(tmp_path / "lake")
        books = {sink: bucket.book(sink) for sink in FORMATS}
        left = missing(shown, bucket.books(), {})

    named = set(MOMENTS)
    assert left == dict.fromkeys(FORMATS, 0)
    assert named == set(where), where
    assert counted(tmp_path) == {sink: len(book.arrived) for sink, book in books.items()}
    ledger.row(
        "Object storage",
        "SIGKILL while lines and Parquet are written into SeaweedFS; DuckDB counts the ids",
        times=KILLS,
        events=len(books["lines"].arrived),
        lost=sum(left.values()),
        again={sink: book.again for sink, book in books.items()},
        recovery=seconds,
        more=f"{len(bucket.objects)} objects, each whole whenever it was listed; "
        + ", ".join(f"{point}: {number}" for point, number in sorted(where.items())),
    )


def counted(folder: Path) -> dict[str, int]:
    """Return the ids of rows that DuckDB finds in each sink's folder."""
    of_rows = "hive_partitioning = true) where stream <> 'forwarder'"
    lines = f"read_ndjson_objects('{{folder}}/lake/lines/**/*.gz', {of_rows}"
    columns = f"read_parquet('{{folder}}/lake/columns/**/*.parquet', {of_rows}"
    ((in_lines,),) = query(f"select count(distinct json->>'$._forwarder.id') from {lines}", folder)
    ((in_columns,),) = query(f"select count(distinct id) from {columns}", folder)
    return {"lines": in_lines, "columns": in_columns}


async def test_a_bucket_that_stalls_delays_no_other_sink(
    server: S3Server, tmp_path: Path, ledger: Ledger
) -> None:
    with ToxicProxy(urlsplit(server.url).port or 0) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}"
        stalled = lake(server, "columns", endpoint=endpoint, response_timeout="5s")
        async with (
            HecBook() as other,
            site(
                tmp_path,
                {"hec": hec(other), "columns": stalled},
                "--rate",
                "20",
                "--scim-rate",
                "0",
            ) as daemon,
        ):
            books: Books = {"hec": lambda: other.book}
            await daemon.start()
            await daemon.running()
            await daemon.settled(books, 30)
            proxy.swallow = True
            slowest, until_then = 0.0, time.monotonic() + 8
            while time.monotonic() < until_then:
                slowest = max(slowest, (await daemon.settled(books, 30))[1])
                await asyncio.sleep(0.5)
            bucket = Bucket(server)
            both: Books = {**books, "columns": lambda: bucket.book("columns")}
            waiting = missing(await daemon.shown(), both, {})["columns"]
            proxy.swallow = False
            proxy.reset()
            shown, seconds = await daemon.settled(both, 60)
            assert await daemon.stop() == 0

    assert waiting > 100
    assert slowest < 4
    ledger.row(
        "Object storage",
        "the bucket takes connections and answers nothing, beside a Splunk sink",
        times=1,
        events=shown.total(),
        lost=sum(missing(shown, both, {}).values()),
        recovery=seconds,
        more=f"the other sink was at most {slowest:.1f} s behind",
    )
