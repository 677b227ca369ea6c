"""Many rows, many accounts, a long time: memory, descriptors and threads stay where they are."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import psutil
import pytest

from forwarder.core.contracts import (
    ACCEPTED,
    LIVE,
    Batch,
    BatchEvent,
    BatchLimits,
    Record,
    Rendered,
    StoredPage,
    StreamKey,
    WriteResult,
)
from forwarder.core.journal import Keeping
from forwarder.core.log import Addition, ReaderState
from forwarder.core.telemetry import ignore
from forwarder.core.timing import SystemClock
from forwarder.delivery.consumer import Consumer
from forwarder.delivery.pacing import DeliveryOptions
from forwarder.journal.sqlite import SqliteJournal
from tests.proof.ledger import Ledger
from tests.proof.measuring import MIB, Sample, growth, level, slope, watched
from tests.proof.site import account, site

_PAGE = 1000
_BODY = b"x" * 600
_KEEPING = Keeping(2**30, 1_000_000)


class Counting:
    """A sink that counts offsets and takes everything."""

    limits = BatchLimits(max_wait=0.01)

    def __init__(self) -> None:
        self.events = 0
        self.seen = bytearray()

    async def open(self) -> None:
        return

    async def write(self, batch: Batch) -> WriteResult:
        for event in batch.events:
            if event.offset >= len(self.seen):
                self.seen.extend(bytes(max(event.offset + 1 - len(self.seen), 1 << 20)))
            self.seen[event.offset] = 1
        self.events += len(batch.events)
        return ACCEPTED

    async def aclose(self) -> None:
        return


def plain(page: StoredPage) -> Rendered:
    """Render rows as nothing much: the journal is measured, not a format."""
    events = [
        BatchEvent(page.first_offset + n, one, page.stream, "", 0, 0, "unknown", "", _BODY)
        for n, one in enumerate(page.hex_ids)
    ]
    return Rendered(events, page.end_offset, 0)


async def append(journal: SqliteJournal, rows: int, sinks: list[Counting]) -> None:
    """Append pages, a bounded way ahead of the slowest sink, pruning now and then."""
    log, rng = journal.stream_log(StreamKey("account", "access_requests")), Random(1)
    for number in range(0, rows, _PAGE):
        base = 1_760_000_000_000_000 + number * 1000
        made = [
            Record(b'{"n":%d,"text":"%b"}' % (number + n, rng.randbytes(150).hex().encode()),
                   base + n * 1000, (number + n).to_bytes(16, "big"), frozenset({"n", "text"}))
            for n in range(_PAGE)
        ]  # fmt: skip
        await log.append(Addition(LIVE, ReaderState(base + _PAGE * 1000), base, records=made))
        if number % 20_000 == 0:
            await journal.maintain()
        while number - min(sink.events for sink in sinks) > 50_000:  # noqa: ASYNC110 - sinks only count
            await asyncio.sleep(0.01)


async def through(folder: Path, rows: int, sinks: list[Counting]) -> tuple[int, int]:
    """Carry rows through a journal to sinks that count; return how many were lost, came again."""
    journal = await SqliteJournal.open(folder, _KEEPING, clock=SystemClock(), emit=ignore)
    consumers = []
    for number, sink in enumerate(sinks):
        queue = await journal.sink_queue(f"sink{number}", start_at="beginning")
        consumers.append(
            Consumer(
                name=f"sink{number}", sink=sink, queue=queue, render=plain,
                options=DeliveryOptions(), clock=SystemClock(), rng=Random(number),
            )
        )  # fmt: skip
    tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
    await append(journal, rows, sinks)
    while any(place.backlog for place in await journal.places()):  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.05)
    for consumer in consumers:
        await consumer.drain(SystemClock().monotonic() + 10)
    await asyncio.gather(*tasks)
    await journal.aclose()
    lost = sum(rows - sum(sink.seen) for sink in sinks)
    return lost, sum(sink.events - sum(sink.seen) for sink in sinks)


@pytest.mark.alone
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(300_000, marks=pytest.mark.timeout(300)),
        pytest.param(10_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(0)]),
    ],
)
async def test_millions_of_rows_go_through_the_journal_to_three_sinks(
    rows: int, tmp_path: Path, ledger: Ledger
) -> None:
    began = time.monotonic()
    async with watched(psutil.Process(os.getpid()), 1.0) as watch:
        lost, again = await through(tmp_path, rows, [Counting() for _ in range(3)])
    took = time.monotonic() - began

    assert (lost, again) == (0, 0)
    assert growth(watch.samples) < 48
    ledger.row(
        "Load", "rows through the journal to three sinks", events=rows, lost=lost, again=again,
        more=f"{rows / took:,.0f} rows/s; the process of the test grew by "
        f"{watch.highest - watch.samples[0].resident / MIB:.0f} MiB at most, "
        f"{growth(watch.samples):+.1f} MiB from the first quarter to the last",
    )  # fmt: skip


class Careless(Counting):
    """Loses the first event of its third batch, and takes its fourth twice."""

    def __init__(self) -> None:
        super().__init__()
        self._batches = 0

    async def write(self, batch: Batch) -> WriteResult:
        self._batches += 1
        if self._batches == 3:
            batch = replace(batch, events=batch.events[1:])
        if self._batches == 4:
            await super().write(batch)
        return await super().write(batch)


async def test_a_row_that_a_sink_loses_or_gets_twice_is_found(
    tmp_path: Path, ledger: Ledger
) -> None:
    lost, again = await through(tmp_path, 20_000, [Counting(), Careless()])

    assert (lost, again > 0) == (1, True)
    ledger.plant("Load", "a sink that drops one event and takes one batch twice",
                 f"{lost} lost, {again} again")  # fmt: skip


@pytest.mark.alone
@pytest.mark.timeout(200)
async def test_two_hundred_accounts_are_polled_by_one_process(
    tmp_path: Path, ledger: Ledger
) -> None:
    ids = [f"{number:032x}" for number in range(1, 201)]
    options = [text for one in ids for text in ("--account", one)]
    options += ["--rate", "0.2", "--scim-rate", "0", "--history", "2m"]
    async with site(tmp_path, {"void": {"type": "null"}}, *options) as daemon:
        streams = {"access_requests": {"poll_interval": "5s"}}
        daemon.settings["accounts"] = [
            account(daemon.api.url, account_id=one, name=f"account-{n}", streams=streams)
            for n, one in enumerate(ids)
        ]
        await daemon.start()
        await daemon.running()
        async with watched(daemon.usage()) as watch:
            await asyncio.sleep(30)
        busy = daemon.usage().cpu_times()
        told = await daemon.status()
        assert await daemon.stop() == 0
        phases = [stream["phase"] for stream in told["streams"]]

        assert phases == ["running"] * 200
        assert level([sample.descriptors for sample in watch.after(10)])
        ledger.row(
            "Load", "accounts polled every 5 s by one process", times=200,
            more=f"{busy.user + busy.system:.1f} s of CPU in 30 s, start included; resident "
            f"{watch.highest:.0f} MiB, {watch.samples[-1].threads} threads",
        )  # fmt: skip


@pytest.mark.alone
@pytest.mark.parametrize(
    ("seconds", "warm_up"),
    [
        pytest.param(60, 15, marks=pytest.mark.timeout(200)),
        pytest.param(7200, 900, marks=[pytest.mark.slow, pytest.mark.timeout(0)]),
    ],
)
async def test_memory_descriptors_and_threads_do_not_climb(
    seconds: int, warm_up: int, tmp_path: Path, ledger: Ledger
) -> None:
    """A hundred logins a second, fifty times a busy company; a minute bounds growth only.

    There is enough history that, but for the shortest run, the readers of ten minutes and of one
    hour ago have work from the start: each takes memory once, when it begins.
    """
    history = "1m" if seconds < 7200 else "70m"
    options = ("--rate", "100", "--scim-rate", "5", "--history", history)
    async with site(tmp_path, {"void": {"type": "null"}}, *options) as daemon:
        await daemon.start()
        await daemon.running()
        async with watched(daemon.usage(), 1.0) as watch:
            await asyncio.sleep(seconds)
        assert await daemon.stop() == 0
        warm = watch.after(warm_up)

        assert level([sample.descriptors for sample in warm])
        assert level([sample.threads for sample in warm])
        assert growth(warm) < 12
        assert seconds < 7200 or slope(warm) < 1.0
        ledger.row(
            "Load", f"{seconds} s at 50 times the traffic", more=f"slope after {warm_up} s "
            f"{slope(warm):+.1f} MiB/h, growth {growth(warm):+.2f} MiB, resident "
            f"{watch.highest:.0f} MiB, {warm[-1].descriptors} descriptors, "
            f"{warm[-1].threads} threads",
        )  # fmt: skip


def test_a_leak_is_found(ledger: Ledger) -> None:
    leaking = [
        Sample(at, 100 * MIB + round(at * 1200), 20 + round(at) // 60, 9) for at in range(3600)
    ]

    assert slope(leaking) > 1.0
    assert not level([sample.descriptors for sample in leaking])
    ledger.plant("Load", "1.2 kB lost a second", f"slope {slope(leaking):.1f} MiB/h")
