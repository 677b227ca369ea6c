"""How soon a row is on stdout, how regular polls are, and how many requests a quiet hour takes."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import PIPE
from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import orjson
import pytest

from tests.proof.figures import SECTION, daemon, fetched, helper
from tests.proof.ledger import Ledger
from tests.proof.steady import HOUR, Rates, steady

_ROWS = 2_000
_POLL = 2.0
_BUDGET = 1200


async def _lines(out: asyncio.StreamReader, rows: int) -> list[tuple[int, int]]:
    """Return row numbers with the moment (monotonic ns) of their line on stdout."""
    found: list[tuple[int, int]] = []
    while len(found) < rows:
        line = await out.readuntil(b"\n")
        now_ns = time.monotonic_ns()
        row = orjson.loads(line)
        if "ray_id" in row:
            found.append((int(row["ray_id"], 16), now_ns))
    return found


def _waits(lines: list[tuple[int, int]], seen: Any) -> list[float]:
    """Return seconds from the last byte of the answer that first showed a row to its line."""
    ends = [end for end, _ in seen["firsts"]]
    shown = [seen["firsts"][bisect_right(ends, number)][1] for number, _ in lines]
    return [(line - first) / 1e9 for (_, line), first in zip(lines, shown, strict=True)]


def _starts(seen: Any) -> list[float]:
    """Return when polls started (seconds): the first request of each window but the very first."""
    starts: dict[str, float] = {}
    for moment_ns, until in seen["arrivals"]:
        starts.setdefault(until, moment_ns / 1e9)
    return list(starts.values())[1:]


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {number}" for what, number in counts.items())


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_shown_row_is_on_stdout_at_once_and_polls_are_regular(
    tmp_path: Path, ledger: Ledger
) -> None:
    sinks = {"out": {"type": "stdout", "format": "raw"}}
    stream = {"poll_interval": f"{_POLL:g}s", "start_from": "10s", "reconcile": []}
    with helper("tests.proof.figures_server", "10", "1") as port:
        async with daemon(tmp_path, port, sinks, stream, stdout=PIPE) as running:
            assert running.process.stdout is not None
            lines = await _lines(running.process.stdout, 500 + _ROWS)
            seen = await fetched(f"http://127.0.0.1:{port}/seen")

    waits = sorted(_waits(lines[-_ROWS:], seen))
    p50, p99 = median(waits), quantiles(waits, n=100)[98]
    polls = [later - before for before, later in pairwise(_starts(seen))]
    worst = max(abs(poll - _POLL) / _POLL for poll in polls)
    told = f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, longest {waits[-1] * 1e3:.0f} ms"
    regular = f"every {median(polls):.3f} s, at most {worst:.1%} off"
    print(f"last byte of the answer to line on stdout, {_ROWS:,} rows: {told}")  # noqa: T201
    print(f"{len(polls)} polls at poll_interval {_POLL:g}s: {regular}")  # noqa: T201
    print("intervals:", ", ".join(f"{poll:.3f}" for poll in polls))  # noqa: T201
    assert p50 <= 0.2
    assert p99 <= 1.0
    assert worst <= 0.05
    ledger.row(SECTION, "last byte of an answer to its rows on stdout", events=_ROWS, more=told)
    ledger.row(SECTION, f"polls at `poll_interval: {_POLL:g}s`", times=len(polls), more=regular)


async def test_requests_in_steady_state_are_two_a_poll_two_a_slice_and_the_providers(
    tmp_path: Path, ledger: Ledger
) -> None:
    """An hour in which no window holds more rows than a page; 120 providers are several chunks."""
    counted = await steady(tmp_path, Rates(logins=0.25, providers=120))

    told = _told(counted.requests)
    print(f"in an hour: {told}; polls {_told(counted.polls)}; lists {counted.lists}")  # noqa: T201
    for stream, chunks in (("access_requests", 1), ("scim_updates", counted.chunks)):
        most = 2 * chunks * (counted.polls[stream] + counted.slices[stream])
        assert counted.requests[stream] <= most
    assert counted.lists <= HOUR / 300
    ledger.row(
        SECTION,
        f"an hour at a login every 4 s, 120 identity providers in {counted.chunks} chunks",
        more=f"requests: {told}; polls {_told(counted.polls)}; slices {_told(counted.slices)}",
    )


async def test_sixty_rows_a_second_take_less_than_a_quarter_of_the_budget(
    tmp_path: Path, ledger: Ledger
) -> None:
    """At the default settings, after the trailing readers of ten minutes and an hour are busy."""
    counted = await steady(tmp_path, Rates(logins=60, providers=3))

    most, mean = counted.most_in(300), counted.requests.total() / (HOUR / 300)
    told = f"{mean:.0f} requests in 5 min, at most {most}, {most / _BUDGET:.0%} of {_BUDGET}"
    print(f"60 rows/s for an hour: {told}")  # noqa: T201
    assert most < _BUDGET / 4
    ledger.row(SECTION, "60 rows/s for an hour at the default settings", more=told)
