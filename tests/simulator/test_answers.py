"""Envelope, headers, sizes and parameters, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    SCIM_UPDATES,
    ManualClock,
    Simulator,
    SimulatorSettings,
)
from tests.simulator.reader import Reader


def row(number: int, time: str = "2026-09-21T14:13:00Z") -> dict[str, Any]:
    return {"created_at": time, "ray_id": f"{number:04x}"}


async def test_an_answer_is_cloudflares_envelope(simulator: Simulator, reader: Reader) -> None:
    simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row(1))

    answer = await reader.read(ACCESS_REQUESTS)

    assert answer.status == 200
    assert answer.json == {
        "result": [row(1)],
        "success": True,
        "errors": [],
        "messages": [],
        "result_info": {"count": 1, "page": 1, "per_page": 25, "total_count": 0},
    }


async def test_every_answer_tells_ray_date_and_quota(reader: Reader) -> None:
    answers = [await reader.read(ACCESS_REQUESTS), await reader.get("/nowhere")]

    for remaining, answer in zip((1199, 1198), answers, strict=True):
        assert answer.headers["Ratelimit"] == f'"default";r={remaining};t=300'
        assert answer.headers["Ratelimit-Policy"] == '"default";q=1200;w=300'
        assert answer.headers["Date"] == "Mon, 21 Sep 2026 14:13:20 GMT"
    assert answers[0].headers["cf-ray"] != answers[1].headers["cf-ray"]


async def test_provisioning_counts_honestly_and_shows_twenty(
    simulator: Simulator, reader: Reader
) -> None:
    idp = simulator.directory(DEFAULT_ACCOUNT).provisioning()[0]
    for _ in range(41):
        simulator.add(DEFAULT_ACCOUNT, SCIM_UPDATES, {"idp_id": idp})

    answer = await reader.read(SCIM_UPDATES, [("idp_id", idp), ("page", "3")])

    assert answer.json["result_info"] == {
        "count": 1, "page": 3, "per_page": 20, "total_count": 41, "total_pages": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ({}, 25),
        ({"limit": "40"}, 40),
        ({"per_page": "40"}, 40),
        ({"limit": "40", "per_page": "30"}, 30),
        ({"limit": "5000"}, 50),
    ],
)
async def test_the_smaller_of_both_sizes_and_the_cap_apply(
    clock: ManualClock, sizes: Mapping[str, str], rows: int
) -> None:
    settings = SimulatorSettings(rate=0, page_cap=50)
    async with Simulator(settings, clock=clock) as simulator:
        for number in range(60):
            simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row(number))

        answer = await Reader(simulator.url).read(ACCESS_REQUESTS, sizes)

    assert len(answer.rows) == answer.json["result_info"]["per_page"] == rows


async def test_settings_can_make_the_api_stricter(clock: ManualClock) -> None:
    settings = SimulatorSettings(
        rate=0, unsent_size_counts=True, refuse_over_cap=True, require_idp_id=False
    )
    async with Simulator(settings, clock=clock) as simulator:
        reader = Reader(simulator.url)
        shrunk = await reader.read(ACCESS_REQUESTS, {"limit": "1000"})
        refused = await reader.read(ACCESS_REQUESTS, {"limit": "1001", "per_page": "1001"})
        without_idp = await reader.read(SCIM_UPDATES)

    assert shrunk.json["result_info"]["per_page"] == 25
    assert (refused.status, refused.code) == (400, 12130)
    assert without_idp.status == 200


@pytest.mark.parametrize(
    "params",
    [
        {"direction": "up"}, {"page": "0"}, {"page": "x"}, {"limit": "-1"}, {"since": "yesterday"},
        {"until": "2026-09-21"}, {"allowed": "maybe"}, {"emailOp": "like"},
        {"ray_idOp": "contains"}, {"user_idOp": "lt"},
    ],
)  # fmt: skip
async def test_a_parameter_that_cannot_be_read_is_refused(
    reader: Reader, params: dict[str, str]
) -> None:
    answer = await reader.read(ACCESS_REQUESTS, params)

    assert (answer.status, answer.code) == (400, 12130)
    assert answer.json["success"] is False


async def test_fields_project_the_rows(simulator: Simulator, reader: Reader) -> None:
    simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, {**row(1), "allowed": True})

    answer = await reader.read(ACCESS_REQUESTS, {"fields": "allowed,ray_id,missing"})

    assert answer.rows == [{"allowed": True, "ray_id": "0001"}]


async def test_live_rows_appear_when_their_time_has_come_and_leave_with_retention(
    clock: ManualClock,
) -> None:
    settings = SimulatorSettings(rate=5, history=10, retention=60)
    async with Simulator(settings, clock=clock) as simulator:
        reader = Reader(simulator.url)
        counts = []
        for seconds in (0, 20, 40, 60):
            clock.advance(seconds)
            rows = (await reader.read(ACCESS_REQUESTS, {"limit": "1000"})).rows
            counts.append(len(rows))
            assert all("2026-09-21" in one["created_at"] for one in rows)

    assert counts[0] < counts[1] < counts[2]
    assert counts[3] == pytest.approx(300, rel=0.25)


async def test_the_servers_clock_may_be_ahead_of_the_machines() -> None:
    async with Simulator(SimulatorSettings(history=0, clock_offset=3600)) as simulator:
        answer = await Reader(simulator.url).read(ACCESS_REQUESTS)

    ahead = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    assert ahead == pytest.approx(3600, abs=30)


async def test_closing_is_idempotent_and_safe_without_a_start() -> None:
    simulator = Simulator()

    await simulator.aclose()
    await simulator.start()
    await simulator.aclose()
    await simulator.aclose()
