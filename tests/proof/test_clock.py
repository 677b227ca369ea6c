"""The machine's clock jumps, and its zone is an odd one: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.end_to_end.processes import until
from tests.proof.auditing import audited
from tests.proof.destinations import HecBook
from tests.proof.ledger import Ledger
from tests.proof.sinks import Five, five, hec
from tests.proof.site import Site, missing, site

_OPTIONS = ("--rate", "30", "--scim-rate", "3", "--history", "5m")


def steppable(daemon: Site, folder: Path) -> Path:
    """Let the daemon's wall clock follow a file; its monotonic clock runs on as it does."""
    file = folder / "faketime"
    file.write_text("+0")
    daemon.environment |= {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        # The shim's repair for old glibc ends each timed wait at once: Python's threads, which
        # hand over the interpreter with such waits, would do little else.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "TZ": "America/New_York",
    }
    return file


def _library() -> str:
    """Return the shim of the package libfaketime, which only ``make proof`` installs."""
    package = find_spec("libfaketime")
    assert package is not None, "make proof installs libfaketime"
    folders = package.submodule_search_locations or []
    return str(next(Path(folders[0]).rglob("libfaketime.so.1")))


async def settle(daemon: Site, sinks: Five) -> float:
    """Let the traffic of a few polls come in, and wait until all that the API has is everywhere."""
    await asyncio.sleep(4)
    began, everything = time.monotonic(), await daemon.visible()
    await until(lambda: len(sinks.hec.book.arrived) >= everything, 90)
    await daemon.settled(sinks.books, 90, sinks.refused)
    return time.monotonic() - began


_CHANGES = {"to winter time": "2026-11-01T06:00:00Z", "to summer time": "2026-03-08T07:00:00Z"}


def set_before(file: Path, moment: float) -> int:
    """Set the daemon's clock to three seconds before ``moment``; return what it is off by."""
    offset = int(moment - time.time()) - 3
    file.write_text(f"{offset}s")
    return offset


async def over(daemon: Site, sinks: Five, file: Path, change: str) -> float:
    """Let the wall clock run over a change of the zone, and wait until all is everywhere."""
    moment = datetime.fromisoformat(change).timestamp()
    offset = set_before(file, moment)
    await until(lambda: time.time() + offset > moment + 3)
    return await settle(daemon, sinks)


@pytest.mark.timeout(300)
async def test_changes_of_the_zone_lose_nothing_and_send_nothing_twice(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        file = steppable(daemon, tmp_path)
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived, 90)
        waits = [await over(daemon, sinks, file, change) for change in _CHANGES.values()]
        shown, _ = await daemon.settled(sinks.books, 90, sinks.refused)
        assert await daemon.stop() == 0
        left = missing(shown, sinks.books, sinks.refused)
        opinion = await audited(daemon)
        days = {line["time"][:10] for line in daemon.log()}

        assert left == dict.fromkeys(sinks.books, 0)
        assert sinks.hec.book.again == 0
        assert days >= {change[:10] for change in _CHANGES.values()}
        ledger.row(
            "Clock",
            "the machine's clock runs over both changes of America/New_York",
            times=len(waits),
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=max(waits),
            more=opinion,
        )


@pytest.mark.timeout(300)
async def test_steps_of_a_day_lose_nothing_and_send_nothing_twice(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        file = steppable(daemon, tmp_path)
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived, 90)
        waits, dates = [], set()
        for step in ("+1d", "+0", "-1d", "+3600s", "-3600s", "+0"):
            file.write_text(step)
            waits.append(await settle(daemon, sinks))
            dates |= {sink["last_success"][:10] for sink in (await daemon.status())["sinks"]}
        assert await daemon.stop() == 0
        file.write_text("-1d")
        await daemon.start()
        await daemon.running()
        waits.append(await settle(daemon, sinks))
        shown, _ = await daemon.settled(sinks.books, 90, sinks.refused)
        assert await daemon.stop() == 0
        left = missing(shown, sinks.books, sinks.refused)
        opinion = await audited(daemon)

        assert left == dict.fromkeys(sinks.books, 0)
        assert len(dates) >= 3
        assert sinks.hec.book.again == 0
        ledger.row(
            "Clock",
            "steps of a day and an hour, forward and back, one over a restart; TZ=America/New_York",
            times=len(waits),
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=max(waits),
            more=opinion,
        )


async def test_a_position_that_follows_the_local_clock_is_found(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Rows that nobody asks for are never shown; the judge is what the API has."""
    async with HecBook() as sink, site(tmp_path, {"hec": hec(sink)}, *_OPTIONS) as daemon:
        file = steppable(daemon, tmp_path)
        daemon.plants = True
        daemon.settings["accounts"][0]["type"] = "local_clock_access"
        await daemon.start()
        left = 0

        async def behind() -> int:
            nonlocal left
            left = await daemon.visible() - len(sink.book.arrived)
            return left

        async def level() -> bool:
            return await behind() < 300

        async def far_behind() -> bool:
            return await behind() > 900

        await until(level, 200)
        file.write_text("+1d")
        await until(far_behind, 90)

        ledger.plant(
            "Clock", "a position that follows the machine's clock", f"{left} not asked for"
        )
