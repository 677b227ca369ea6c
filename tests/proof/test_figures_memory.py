"""How much memory the daemon takes: while it catches up, and while nobody takes anything."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end.processes import until
from tests.proof.figures import LIMIT_MIB, SECTION, Daemon, daemon, hec, helper
from tests.proof.ledger import Ledger

_ROWS = 1_000_000
_PART = 100_000


@pytest.mark.alone
@pytest.mark.timeout(900)
async def test_a_million_rows_are_caught_up_evenly_in_little_memory(
    tmp_path: Path, ledger: Ledger
) -> None:
    """The last tenth is as quick as the first; 200,000 rows alone are a part of it."""
    sinks = {"out": {"type": "stdout", "format": "ocsf"}}
    with helper("tests.proof.figures_server", str(_ROWS // 50), "1") as port:
        async with daemon(tmp_path, port, sinks) as running:
            marks = [await running.reached("out", 1)]
            peaks = []
            for events in range(_PART, _ROWS + 1, _PART):
                marks.append(await running.reached("out", events))
                peaks.append(running.peak)
            used = running.cpu

    wall = (marks[-1].at - marks[-2].at) / (marks[1].at - marks[0].at)
    cpu = (marks[-1].cpu - marks[-2].cpu) / (marks[1].cpu - marks[0].cpu)
    rate = (marks[-1].events - marks[0].events) / (marks[-1].at - marks[0].at)
    for rows, peak in ((200_000, peaks[1]), (_ROWS, peaks[-1])):
        print(f"{rows:,} rows caught up: at most {peak:.0f} MiB resident")  # noqa: T201
    told = f"last 100,000 rows / first 100,000: {wall:.2f} of the time, {cpu:.2f} of the CPU time"
    print(f"{told}; {rate:,.0f} rows/s, {used / _ROWS * 1e6:.0f} us CPU/row")  # noqa: T201
    assert peaks[1] < LIMIT_MIB
    assert peaks[-1] < LIMIT_MIB
    assert wall <= 1.3
    ledger.row(
        SECTION,
        "200,000 rows caught up to stdout",
        events=200_000,
        more=f"resident at most {peaks[1]:.0f} MiB",
    )
    ledger.row(
        SECTION,
        "1,000,000 rows caught up to stdout",
        events=_ROWS,
        more=f"resident at most {peaks[-1]:.0f} MiB; {told}",
    )


async def _waits(running: Daemon, sink: str) -> bool:
    return await running.backlog(sink) >= _ROWS


@pytest.mark.alone
@pytest.mark.timeout(900)
async def test_a_million_rows_wait_for_four_sinks_in_little_memory(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Nobody listens where the sinks lead to; a restart with the full journal costs no more."""
    dead = {"host": "127.0.0.1", "port": 1}
    sinks = {
        "hec": hec(1),
        "elastic": {"type": "elasticsearch", "format": "ecs", "url": "http://127.0.0.1:1",
                    "api_key": "a-key"},
        "syslog": {"type": "syslog", "format": "leef", "transport": "tcp"} | dead,
        "relp": {"type": "relp", "format": "ocsf"} | dead,
    }  # fmt: skip
    with helper("tests.proof.figures_server", str(_ROWS // 50), "1") as port:
        async with daemon(tmp_path, port, sinks) as running:
            await until(partial(_waits, running, "relp"), 600)
            await asyncio.sleep(10)
            backlogs = {sink: await running.backlog(sink) for sink in sinks}
            filled = running.peak
        async with daemon(tmp_path, port, sinks) as running:
            await asyncio.sleep(20)
            restarted = running.peak

    told = f"resident at most {filled:.0f} MiB; after a restart with it {restarted:.0f} MiB"
    print(f"{_ROWS:,} rows wait for each of four sinks: {told}")  # noqa: T201
    assert min(backlogs.values()) >= _ROWS
    assert max(filled, restarted) < LIMIT_MIB
    ledger.row(SECTION, "1,000,000 rows wait for four sinks that are down", events=_ROWS, more=told)
