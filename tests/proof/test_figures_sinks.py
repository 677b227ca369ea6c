"""What a bad neighbour costs a healthy sink, and how much goes through late acknowledgements."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.proof.figures import SECTION, daemon, fetched, hec, helper, throughput
from tests.proof.ledger import Ledger

_SERVER = "tests.proof.figures_server"
_ROWS = 150_000
_RUNS = 3
_WARM_UP, _SUSTAINED = 120, 60
_TARGET = 5_000


@pytest.mark.alone
@pytest.mark.timeout(900)
async def test_beside_a_sink_that_hangs_a_healthy_one_keeps_its_throughput(
    tmp_path: Path, ledger: Ledger
) -> None:
    """In turns, so that both meet the same machine; the best runs are the least disturbed."""
    alone, beside = [], []
    with helper(_SERVER, str(_ROWS // 50), "1") as port:
        hanging = {"hanging": hec(port, "/hanging", ack="off")}
        for run in range(_RUNS):
            alone.append(await throughput(tmp_path / f"alone{run}", port, _ROWS, {}))
            beside.append(await throughput(tmp_path / f"beside{run}", port, _ROWS, hanging))

    rate = max(by_clock for by_clock, _ in alone)
    wall = max(by_clock for by_clock, _ in beside) / rate
    cpu = max(by_cpu for _, by_cpu in beside) / max(by_cpu for _, by_cpu in alone)
    told = f"{wall:.0%} of its throughput alone ({rate:,.0f} events/s), {cpu:.0%} by CPU time"
    print(f"beside a sink that hangs: {told}")  # noqa: T201
    assert min(wall, cpu) >= 0.9
    ledger.row(SECTION, "beside a sink that never answers", times=_RUNS, events=_ROWS, more=told)


async def _aging(
    folder: Path, port: int, neighbours: dict[str, Any], seconds: float
) -> tuple[float, int]:
    """Return the healthy sink's p99 age in seconds and its backlog at the end."""
    sinks = {"healthy": hec(port, "/healthy", ack="off")} | neighbours
    stream = {"poll_interval": "1s", "overlap": "2s", "reconcile": [], "start_from": "10s"}
    async with daemon(folder, port, sinks, stream) as running:
        await running.reached("healthy", 1)
        await asyncio.sleep(5)
        await fetched(f"http://127.0.0.1:{port}/ages")
        backlogs = []
        for _ in range(int(seconds * 2)):
            backlogs.append(await running.backlog("healthy"))
            await asyncio.sleep(0.5)
        ages = await fetched(f"http://127.0.0.1:{port}/ages")
    return _p99(ages), int(median(backlogs[-10:]))


def _p99(ages: list[tuple[float, int]]) -> float:
    totals = list(accumulate(count for _, count in ages))
    place = bisect_left(totals, 0.99 * totals[-1])
    return ages[place][0]


@pytest.mark.alone
@pytest.mark.timeout(900)
async def test_beside_a_sink_that_refuses_everything_nothing_gets_older(
    tmp_path: Path, ledger: Ledger
) -> None:
    """At half the rate that the healthy sink takes at most; age runs from arrival to delivery."""
    with helper(_SERVER, str(_ROWS // 50), "1") as port:
        most, _ = await throughput(tmp_path / "most", port, _ROWS, {})
    alone, beside, backlogs = [], [], []
    with helper(_SERVER, "0", str(most / 2 / 50)) as port:
        url = f"http://127.0.0.1:{port}/refusing"
        refusing = {"refusing": {"type": "elasticsearch", "format": "raw", "url": url,
                                 "api_key": "a-key"}}  # fmt: skip
        for run in range(_RUNS):
            age, _ = await _aging(tmp_path / f"alone{run}", port, {}, 15)
            alone.append(age)
            age, backlog = await _aging(tmp_path / f"beside{run}", port, refusing, 15)
            beside.append(age)
            backlogs.append(backlog)

    ratio = median(beside) / median(alone)
    told = (
        f"at {most / 2:,.0f} events/s: p99 age {median(beside) * 1e3:.0f} ms, "
        f"{ratio:.2f} of that alone; backlog {max(backlogs)}"
    )
    print(f"beside a sink that refuses everything, {told}")  # noqa: T201
    assert ratio <= 1.5
    assert max(backlogs) <= most / 2
    ledger.row(SECTION, "beside a sink that refuses everything", times=_RUNS, more=told)


@pytest.mark.alone
@pytest.mark.timeout(600)
async def test_acknowledgements_that_take_ten_seconds_let_five_thousand_a_second_through(
    tmp_path: Path, ledger: Ledger
) -> None:
    """What counts is acknowledged, in each ten seconds of the minute after two minutes."""
    history, parts = 24 * 3600, _WARM_UP // 10
    with helper(_SERVER, str(history), "1") as port, helper("tests.proof.slow_collector") as to:
        async with daemon(tmp_path, port, {"hec": hec(to, ack="required")}) as running:
            looks = [await running.delivered("hec")]
            for _ in range((_WARM_UP + _SUSTAINED) // 10):
                await asyncio.sleep(10)
                looks.append(await running.delivered("hec"))
            peak, backlog = running.peak, await running.backlog("hec")

    rates = [(b.events - a.events) / (b.at - a.at) for a, b in pairwise(looks)]
    told = (
        f"{min(rates[parts:]):,.0f} to {max(rates[parts:]):,.0f} events/s in each 10 s of the "
        f"minute after {_WARM_UP} s; resident at most {peak:.0f} MiB"
    )
    print(f"HEC with acknowledgements after 10 s: {told}; {backlog:,} still wait")  # noqa: T201
    print("from the start:", ", ".join(f"{rate:,.0f}" for rate in rates))  # noqa: T201
    assert backlog > 0
    assert min(rates[parts:]) >= _TARGET
    ledger.row(SECTION, "HEC whose acknowledgements take 10 s", events=looks[-1].events, more=told)
