"""Killed with SIGKILL at every durable step and at random moments: no row is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from random import Random

import pytest

from tests.end_to_end.processes import until
from tests.proof.auditing import audited
from tests.proof.killable import POINTS
from tests.proof.ledger import Ledger
from tests.proof.sinks import Five, five, hec
from tests.proof.site import Site, missing, site

UNANSWERED = "batch arrived, not answered"
RANDOM = "at random"
_PATIENCE = 20.0
_STARTING = 60.0
_UPKEEP = 8.0
_SLOW = ("prune", "journal")
_RARE = (*_SLOW, "dead letter", "sink opened")


def moments(kills: int) -> Iterator[str]:
    """Yield where to kill: every named point in turn, and every fifth kill at random."""
    quick = [point for point in POINTS if not point.startswith(_SLOW)]
    slow = [point for point in POINTS if point.startswith(_SLOW)]
    named = cycle((*quick, UNANSWERED, *quick, UNANSWERED, *slow))
    for number in range(kills):
        yield RANDOM if number % 5 == 4 else next(named)


async def one_life(daemon: Site, sinks: Five | None, point: str, rng: Random) -> str:
    """Start it, have it killed; return where that was."""
    if sinks is not None:
        sinks.before_answers(daemon.kill if point == UNANSWERED else lambda: None)
    named = point in POINTS
    times = 1 if point.startswith(_RARE) else rng.randint(1, 5)
    await daemon.start(at=point if named else None, times=times)
    if point != RANDOM:
        await until(lambda: daemon.process.returncode is not None or daemon.started, _STARTING)
    patience = rng.uniform(0.4, 2.0) if point == RANDOM else _PATIENCE
    patience += _UPKEEP if point.startswith(_SLOW) else 0
    reached = await daemon.ended(patience)
    daemon.kill()
    await daemon.process.wait()
    assert daemon.process.returncode == -9, daemon.errors()
    return point if reached else RANDOM


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(100, marks=pytest.mark.timeout(900)),
        pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(0)]),
    ],
)
async def test_no_row_is_lost_however_often_it_is_killed(
    kills: int, tmp_path: Path, ledger: Ledger
) -> None:
    rng, where = Random(kills), Counter[str]()
    async with (
        five(tmp_path) as sinks,
        site(
            tmp_path, sinks.settings(), "--rate", "25", "--scim-rate", "3", "--history", "10m"
        ) as daemon,
    ):
        for point in moments(kills):
            where[await one_life(daemon, sinks, point, rng)] += 1
        sinks.before_answers(lambda: None)
        await daemon.start()
        await daemon.running()
        shown, seconds = await daemon.settled(sinks.books, 120, sinks.refused)
        assert await daemon.stop() == 0
        dead = await daemon.dead_letters()
        opinion = await audited(daemon)
        left = missing(shown, sinks.books, {"bulk": lambda: dead["bulk"]})

        assert left == dict.fromkeys(sinks.books, 0)
        assert dead.keys() == {"bulk"}
        assert sinks.bulk.book.again == 0
        assert all(where[point] for point in (*POINTS, UNANSWERED)), where
        ledger.row(
            "Crashes",
            f"SIGKILL at {len(where)} points, five sinks",
            times=kills,
            events=shown.total(),
            lost=sum(left.values()),
            again=sinks.again(),
            recovery=seconds,
            more=f"{len(dead['bulk'])} dead letters; {opinion}; "
            + ", ".join(f"{point}: {number}" for point, number in sorted(where.items())),
        )


async def test_a_sink_that_acknowledges_before_it_writes_is_found(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks:
        settings = {"hec": hec(sinks.hec, "hasty_hec")}
        options = ("--rate", "20", "--scim-rate", "0", "--history", "5m")
        async with site(tmp_path, settings, *options) as daemon:
            daemon.plants = True
            await daemon.start(at="offset stored", times=2)
            assert await daemon.ended(20), daemon.errors()
            await daemon.start()
            await asyncio.sleep(4)
            left = await daemon.standing({"hec": lambda: sinks.hec.book})

            assert left["hec"] > 100
            ledger.plant("Crashes", "a sink that acknowledges before it writes", f"{left} lost")


async def test_a_position_that_is_stored_before_its_rows_is_found(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with five(tmp_path) as sinks:
        options = ("--rate", "20", "--scim-rate", "0", "--history", "30m")
        async with site(tmp_path, {"hec": hec(sinks.hec)}, *options) as daemon:
            daemon.plants = True
            daemon.settings["accounts"][0]["type"] = "hasty_access"
            await daemon.start(at="page committed", times=12)
            assert await daemon.ended(20), daemon.errors()
            await daemon.start()
            await asyncio.sleep(4)
            left = await daemon.standing({"hec": lambda: sinks.hec.book})

            assert left["hec"] >= 100
            ledger.plant("Crashes", "a position that is stored before its rows", f"{left} lost")
