"""The disk is full at the worst moments: in the middle of an append, an acknowledgement, a prune.

The process itself lowers its limit on the size of files when it reaches a named point, and the test
lifts it seconds later; nothing is restarted.
"""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

import pytest

from tests.end_to_end.processes import until
from tests.proof.auditing import audited
from tests.proof.destinations import HecBook
from tests.proof.ledger import Ledger
from tests.proof.sinks import five, hec
from tests.proof.site import Site, missing, site
from tests.proof.test_full_disk import FREE, troubled

_OPTIONS = ("--rate", "30", "--scim-rate", "3", "--history", "3m")
_FULL = 4.0
_MOMENTS = {
    "append": "rows go in",
    "append, before the commit": "rows and position before commit",
    "acknowledge": "offset goes in",
    "acknowledge, before the commit": "offset before commit",
    "dead letter": "dead letter goes in",
    "prune": "prune empties",
}


def is_full(daemon: Site) -> bool:
    """Return True if the process has reached its point."""
    return daemon.usage().rlimit(resource.RLIMIT_FSIZE)[0] == 1


async def free_again(daemon: Site) -> float:
    """Wait until the disk is full, and for a while longer; lift the limit and return when."""
    await until(lambda: is_full(daemon), 60)
    await asyncio.sleep(_FULL)
    daemon.usage().rlimit(resource.RLIMIT_FSIZE, FREE)
    return time.monotonic()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", _MOMENTS)
async def test_a_disk_that_is_full_just_then_costs_nothing(
    moment: str, tmp_path: Path, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        daemon.options = ("--do", "fill")
        await daemon.start(at=_MOMENTS[moment], times=1 if moment == "dead letter" else 2)
        pid = daemon.process.pid
        freed = await free_again(daemon)
        everything = await daemon.visible()
        await until(lambda: len(sinks.hec.book.arrived) >= everything, 90)
        await daemon.settled(sinks.books, 90, sinks.refused)
        recovery = time.monotonic() - freed
        met = troubled(daemon)
        shown, _ = await daemon.settled(sinks.books, 90, sinks.refused)
        assert daemon.process.pid == pid
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()
        left = missing(shown, sinks.books, {"bulk": lambda: dead.get("bulk", set())})
        opinion = await audited(daemon)
        code, _ = await daemon.command("check", "--journal")

        assert shown.total() >= everything
        assert left == dict.fromkeys(sinks.books, 0)
        assert code == 0
        ledger.row(
            "Disk",
            f"no write succeeds for {_FULL:.0f} s from this moment on: {moment}",
            times=1,
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=recovery,
            more=f"no restart; met by {', '.join(sorted(met)) or 'nobody who could write it down'}"
            f"; {opinion}",
        )


@pytest.mark.timeout(200)
async def test_a_journal_that_takes_a_full_disk_for_success_is_found(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with HecBook() as sink, site(tmp_path, {"hec": hec(sink)}, *_OPTIONS) as daemon:
        daemon.options = ("--do", "fill", "--swallow")
        await daemon.start(at="rows go in", times=2)
        await free_again(daemon)
        left = await daemon.standing({"hec": lambda: sink.book})

        assert left["hec"] > 0
        ledger.plant("Disk", "a journal that takes a full disk for success", f"{left} lost")
