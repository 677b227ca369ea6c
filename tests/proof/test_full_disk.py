"""The volume of the journal is full for a while: nothing is lost, no restart is needed.

A full disk is made twice: by a small file system of its own where mounting is allowed, and
everywhere by lowering the process' own limit on the size of files, under which every kind of
write to the journal fails.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import until
from tests.proof.auditing import audited
from tests.proof.ledger import Ledger
from tests.proof.sinks import Five, five
from tests.proof.site import Site, missing, site
from tests.proof.volumes import Volume, volume

FREE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
_FULL = 5.0
_OPTIONS = ("--rate", "30", "--scim-rate", "3", "--history", "3m")


def limit(daemon: Site, size: int) -> None:
    """Let no file of the process grow beyond ``size`` bytes."""
    daemon.usage().rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def troubled(daemon: Site, before: int = 0) -> set[str]:
    """Return which parts of the program have met the failing disk, from a line of the log on.

    The log is a file, too: of what failed while no byte could be written, it has only the end.
    """
    return {
        str(line["event"])
        for line in daemon.log()[before:]
        if "disk" in str(line.get("error", "")) + str(line.get("hint", ""))
        or str(line["event"]).endswith("_recovered")
    }


async def fill(daemon: Site, sinks: Five, size: int) -> tuple[set[str], float]:
    """Fill the disk for a while, empty it, and wait until nothing is missing."""
    before = len(daemon.log())
    limit(daemon, size)
    await asyncio.sleep(_FULL)
    daemon.usage().rlimit(resource.RLIMIT_FSIZE, FREE)
    _, recovery = await daemon.settled(sinks.books, 90, sinks.refused)
    return troubled(daemon, before), recovery


@pytest.mark.timeout(400)
async def test_a_full_disk_stops_nothing_for_longer_than_it_lasts(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived)
        pid, met, waits = daemon.process.pid, set[str](), []
        for size in (1, 100_000, 300_000, 1):
            found, recovery = await fill(daemon, sinks, size)
            met |= found
            waits.append(recovery)
        shown, _ = await daemon.settled(sinks.books, 90, sinks.refused)
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()
        left = missing(shown, sinks.books, {"bulk": lambda: dead["bulk"]})
        opinion = await audited(daemon)
        code, _ = await daemon.command("check", "--journal")

        assert left == dict.fromkeys(sinks.books, 0)
        assert daemon.process.pid == pid
        assert met
        assert max(waits) < 45
        assert code == 0
        ledger.row(
            "Disk",
            f"no write to any file succeeds for {_FULL:.0f} s (RLIMIT_FSIZE)",
            times=len(waits),
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=max(waits),
            more=f"{len(dead['bulk'])} dead letters; met by {', '.join(sorted(met))}; {opinion}",
        )


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Volume]:
    with volume(tmp_path / "volume", 32) as small:
        yield small


@pytest.mark.timeout(300)
async def test_a_volume_that_somebody_else_fills_up_is_waited_for(
    tmp_path: Path, small: Volume, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        daemon.settings["state_dir"] = str(small.folder / "state")
        small.load(3 * 2**20)
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived)
        waits = []
        for _ in range(3):
            small.fill()
            await asyncio.sleep(_FULL)
            small.empty()
            _, recovery = await daemon.settled(sinks.books, 90, sinks.refused)
            waits.append(recovery)
        met = troubled(daemon)
        shown, _ = await daemon.settled(sinks.books, 90, sinks.refused)
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()
        left = missing(shown, sinks.books, {"bulk": lambda: dead["bulk"]})
        opinion = await audited(daemon)

        assert left == dict.fromkeys(sinks.books, 0)
        assert met
        ledger.row(
            "Disk",
            f"a tmpfs without a free byte for {_FULL:.0f} s",
            times=len(waits),
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=max(waits),
            more=f"met by {', '.join(sorted(met))}; {opinion}",
        )


@pytest.mark.timeout(200)
async def test_a_volume_that_turns_read_only_is_waited_for(
    tmp_path: Path, small: Volume, ledger: Ledger
) -> None:
    """Files that are open keep a volume from turning read-only, except in a fresh mount of it."""
    async with five(tmp_path) as sinks, site(tmp_path, sinks.settings(), *_OPTIONS) as daemon:
        daemon.settings["state_dir"] = str(small.folder / "state")
        await daemon.start()
        await until(lambda: sinks.hec.book.arrived)
        assert await daemon.stop() == 0
        small.remount("ro")
        await daemon.start()
        refused = await daemon.ended(20)
        said = daemon.errors()
        small.remount("rw")
        await daemon.start()
        await daemon.running()
        shown, recovery = await daemon.settled(sinks.books, 90, sinks.refused)
        assert await daemon.stop() == 0
        left = missing(shown, sinks.books, sinks.refused)
        opinion = await audited(daemon)

        assert left == dict.fromkeys(sinks.books, 0)
        assert refused
        assert "read-only" in said.lower()
        assert "Traceback" not in said
        ledger.row(
            "Disk",
            "started on a read-only volume: refused with the reason; then writable again",
            times=1,
            events=shown.total(),
            lost=sum(left.values()),
            recovery=recovery,
            more=opinion,
        )
