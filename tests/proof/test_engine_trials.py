"""The three trials in which general pipeline engines lose rows, freeze or fill the memory."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.end_to_end.processes import until
from tests.proof.auditing import audited
from tests.proof.books import Digest, lost
from tests.proof.destinations import HecBook
from tests.proof.ledger import Ledger
from tests.proof.measuring import growth, watched
from tests.proof.sinks import hec
from tests.proof.site import Site, site

_MANY = ("--rate", "3.6", "--scim-rate", "0", "--history", "23h")
_FEW = ("--rate", "3", "--scim-rate", "0", "--history", "20m")
_SECTION = "Against the engines"


@asynccontextmanager
async def trial(folder: Path, sinks: dict[str, HecBook], *simulator: str) -> AsyncIterator[Site]:
    """Run a daemon that reads whole pages and writes whole batches to collectors."""
    settings = {name: hec(sink) | {"batch": {}} for name, sink in sinks.items()}
    async with site(folder, settings, *simulator) as daemon:
        streams = {"access_requests": {"poll_interval": "1s"}}
        daemon.settings["accounts"][0]["streams"] = streams
        yield daemon


async def arrived(sink: HecBook, number: int, wait: float = 240) -> None:
    """Return when a sink has so many events."""
    await until(lambda: len(sink.book.arrived) >= number, wait)


async def level_with_api(daemon: Site, sinks: dict[str, HecBook], wait: float) -> Counter[Digest]:
    """Return when nothing that was shown is missing anywhere."""
    everything = await daemon.visible()
    for sink in sinks.values():
        await arrived(sink, everything, wait)
    books = {name: lambda sink=sink: sink.book for name, sink in sinks.items()}
    shown, _ = await daemon.settled(books, wait)
    return shown


@pytest.mark.alone
@pytest.mark.timeout(400)
async def test_a_sink_that_never_answers_costs_the_other_one_nothing(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with HecBook() as healthy, HecBook() as stalled:
        sinks = {"healthy": healthy, "stalled": stalled}
        async with trial(tmp_path, sinks, *_MANY) as daemon:
            await stalled.hang()
            began = time.monotonic()
            await daemon.start()
            await arrived(healthy, 50_000)
            async with watched(daemon.usage()) as watch:
                shown = await level_with_api(daemon, {"healthy": healthy}, 240)
            took = time.monotonic() - began
            grown, highest = growth(watch.samples), watch.highest
            assert stalled.book.arrived.total() == 0

            await stalled.come_back()
            repaired = time.monotonic()
            everything = await level_with_api(daemon, sinks, 240)
            recovery = time.monotonic() - repaired
            assert await daemon.stop() == 0

            assert shown.total() >= 250_000
            assert lost(shown, healthy.book) == 0
            assert lost(everything, stalled.book) == 0
            assert grown < 24
            assert highest < 200
            assert healthy.book.again == 0
            ledger.row(
                _SECTION,
                "one sink accepts and never answers; the healthy one gets everything",
                events=shown.total(),
                lost=lost(shown, healthy.book),
                again=healthy.book.again,
                more=f"{took:.0f} s for all; resident at most {highest:.0f} MiB, "
                f"{grown:+.1f} MiB from the first quarter to the last",
            )
            ledger.row(
                _SECTION,
                "the stalled one once it answers",
                events=everything.total(),
                lost=sum(lost(everything, sink.book) for sink in sinks.values()),
                again=stalled.book.again,
                recovery=recovery,
            )


@pytest.mark.alone
@pytest.mark.timeout(400)
async def test_two_kills_then_drain_lose_nothing(tmp_path: Path, ledger: Ledger) -> None:
    async with HecBook() as sink, trial(tmp_path, {"hec": sink}, *_MANY) as daemon:
        for number in (80_000, 180_000):
            await daemon.start()
            await arrived(sink, number)
            daemon.kill()
            await daemon.process.wait()
        began = time.monotonic()
        await daemon.start()
        shown = await level_with_api(daemon, {"hec": sink}, 300)
        took = time.monotonic() - began
        assert await daemon.stop() == 0
        opinion = await audited(daemon)

        assert shown.total() >= 250_000
        assert lost(shown, sink.book) == 0
        assert sink.book.again <= 2 * 4 * 1000
        ledger.row(
            _SECTION,
            "`kill -9` twice, then drain",
            times=2,
            events=shown.total(),
            lost=lost(shown, sink.book),
            again=sink.book.again,
            recovery=took,
            more=opinion,
        )


async def test_rows_that_a_kill_takes_from_a_hasty_sink_are_found(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with HecBook() as sink, trial(tmp_path, {"hec": sink}, *_FEW) as daemon:
        daemon.plants = True
        daemon.settings["sinks"]["hec"] = hec(sink, "hasty_hec")
        await daemon.start(at="offset stored", times=2)
        assert await daemon.ended(60), daemon.errors()
        await daemon.start()
        await until(lambda: sink.book.arrived, 60)
        left = await daemon.standing({"hec": lambda: sink.book})

        assert left["hec"] > 0
        ledger.plant(_SECTION, "`kill -9` of a sink that acknowledges first", f"{left} lost")


@pytest.mark.parametrize(("code", "status"), [(3, 401), (4, 403), (9, 503)])
async def test_a_collector_that_refuses_for_four_seconds_gets_everything(
    code: int, status: int, tmp_path: Path, ledger: Ledger
) -> None:
    async with HecBook() as sink, trial(tmp_path, {"hec": sink}, *_FEW) as daemon:
        sink.on_batch = lambda: sink.refuse(code)
        await daemon.start()
        await until(lambda: sink.refusals)
        await asyncio.sleep(4)
        sink.refusal = None
        repaired = time.monotonic()
        shown = await level_with_api(daemon, {"hec": sink}, 100)
        recovery = time.monotonic() - repaired
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()

        assert dead == {}
        assert lost(shown, sink.book) == 0
        assert shown.total() >= 2_000
        assert sink.refusals
        ledger.row(
            _SECTION,
            f"HEC answers {status} for 4 s",
            events=shown.total(),
            lost=lost(shown, sink.book),
            again=sink.book.again,
            recovery=recovery,
        )
