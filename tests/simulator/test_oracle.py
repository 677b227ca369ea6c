"""The oracle holds what a client received, no more and no less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import aiohttp
import hypothesis.strategies as st
import orjson
from hypothesis import given
from hypothesis import settings as examples

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    Fault,
    ManualClock,
    Simulator,
    SimulatorSettings,
)
from tests.simulator.conftest import NOON
from tests.simulator.reader import Reader

A_TIME = "2026-09-21T14:13:00Z"


def multiset(rows: Iterable[dict[str, Any]]) -> Counter[bytes]:
    return Counter(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in rows)


@examples(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    steps=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=6),
)
async def test_the_oracle_equals_what_a_client_received(
    seed: int, steps: list[tuple[int, int]]
) -> None:
    clock = ManualClock(NOON)
    late = Fault("late", times=None, share=0.2, seconds=15)
    settings = SimulatorSettings(seed=seed, rate=3, history=30, faults=(late,))
    received: dict[bytes, int] = {}
    async with Simulator(settings, clock=clock) as simulator:
        reader = Reader(simulator.url)
        for seconds, page in steps:
            clock.advance(seconds)
            answer = await reader.read(ACCESS_REQUESTS, {"page": str(page), "limit": "40"})
            received |= multiset(answer.rows)
        shown = simulator.shown(DEFAULT_ACCOUNT, ACCESS_REQUESTS)

    assert multiset(shown) == Counter(received)


async def test_twins_are_instances_each(simulator: Simulator, reader: Reader) -> None:
    twin = {"created_at": A_TIME, "ray_id": "twin"}
    for _ in range(3):
        simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, twin)

    await reader.read(ACCESS_REQUESTS, {"limit": "2"})
    seen_of_two = simulator.shown(DEFAULT_ACCOUNT, ACCESS_REQUESTS)
    await reader.read(ACCESS_REQUESTS, {"limit": "2", "page": "2"})

    assert seen_of_two == [twin] * 2
    assert simulator.shown(DEFAULT_ACCOUNT, ACCESS_REQUESTS) == [twin] * 3
    assert simulator.expected(DEFAULT_ACCOUNT, ACCESS_REQUESTS) == [twin] * 2


async def test_a_row_that_was_never_in_an_answer_was_not_shown(
    simulator: Simulator, reader: Reader
) -> None:
    for number in range(3):
        simulator.add(
            DEFAULT_ACCOUNT, ACCESS_REQUESTS, {"created_at": A_TIME, "ray_id": f"{number}"}
        )
    simulator.faults.add(Fault("truncated"), Fault("cut_off"), Fault("html"))

    for _ in range(3):
        with suppress(aiohttp.ClientPayloadError):
            await reader.read(ACCESS_REQUESTS)
    broken = simulator.shown_count(DEFAULT_ACCOUNT, ACCESS_REQUESTS)
    await reader.read(ACCESS_REQUESTS, {"limit": "1"})

    assert broken == 0
    assert simulator.shown_count(DEFAULT_ACCOUNT, ACCESS_REQUESTS) == 1


async def test_both_versions_of_an_amended_row_count_if_both_were_shown(
    simulator: Simulator, reader: Reader
) -> None:
    row = {"created_at": A_TIME, "ray_id": "1", "allowed": True}
    unseen = simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, {**row, "ray_id": "0"})
    seen = simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row)
    simulator.amend(DEFAULT_ACCOUNT, ACCESS_REQUESTS, unseen, {"allowed": None})
    await reader.read(ACCESS_REQUESTS)

    simulator.amend(DEFAULT_ACCOUNT, ACCESS_REQUESTS, seen, {"allowed": False})
    answer = await reader.read(ACCESS_REQUESTS)

    assert multiset(answer.rows) == multiset(
        [{**row, "allowed": False}, {**row, "ray_id": "0", "allowed": None}]
    )
    assert multiset(simulator.shown(DEFAULT_ACCOUNT, ACCESS_REQUESTS)) == multiset(
        [row, {**row, "allowed": False}, {**row, "ray_id": "0", "allowed": None}]
    )


async def test_a_new_key_does_not_make_shown_rows_new(simulator: Simulator, reader: Reader) -> None:
    simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, {"created_at": A_TIME})
    await reader.read(ACCESS_REQUESTS)
    simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, {"created_at": A_TIME})
    simulator.faults.add(Fault("new_key", key="risk", value=7))

    answer = await reader.read(ACCESS_REQUESTS)

    assert answer.rows == [{"created_at": A_TIME, "risk": 7}] * 2
    assert simulator.shown(DEFAULT_ACCOUNT, ACCESS_REQUESTS) == [
        {"created_at": A_TIME}, {"created_at": A_TIME, "risk": 7},
    ]  # fmt: skip
