"""The machine's clock jumps, and its zone is an odd one: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.end_to_end.processes import until
from tests.proof.ledger import Ledger
from tests.proof.sinks import Five, five
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
    """Let the traffic of a few polls come in, and wait until it is everywhere."""
    await asyncio.sleep(4)
    began = time.monotonic()
    await daemon.settled(sinks.books, 60, sinks.refused)
    return time.monotonic() - began


@pytest.mark.timeout(300)
async def test_steps_of_a_day_lose_nothing_and_send_nothing_twice(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        file = steppable(daemon, tmp_path)
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived)
        waits = []
        for step in ("+1d", "+0", "-1d", "+3600s", "-3600s", "+0"):
            file.write_text(step)
            waits.append(await settle(daemon, sinks))
        stamps = {line["time"][:10] for line in daemon.log()}
        assert await daemon.stop() == 0
        file.write_text("-1d")
        await daemon.start()
        await daemon.running()
        waits.append(await settle(daemon, sinks))
        assert await daemon.stop() == 0
        shown = await daemon.shown()
        left = missing(shown, sinks.books, sinks.refused)

        assert left == dict.fromkeys(sinks.books, 0)
        assert len(stamps) >= 2
        assert sinks.hec.book.again == 0
        ledger.row(
            "Clock",
            "steps of a day and an hour, forward and back, one over a restart; TZ=America/New_York",
            times=len(waits),
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=max(waits),
        )
