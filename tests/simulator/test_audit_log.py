"""The simulated audit log: windows, cursors, categories, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forwarder.simulator import ACCOUNT_AUDIT, DEFAULT_ACCOUNT, Fault, Simulator
from tests.simulator.conftest import second
from tests.simulator.reader import Answer, Reader

PATH = f"/accounts/{DEFAULT_ACCOUNT}/logs/audit"
WHOLE = {"since": "2026-09-21T14:13:00Z", "before": "2026-09-21T14:14:00Z", "direction": "asc"}


def fill(simulator: Simulator, seconds: Sequence[int] = range(1, 10)) -> list[int]:
    return [
        simulator.add(
            DEFAULT_ACCOUNT,
            ACCOUNT_AUDIT,
            {"id": str(at), "action": {"time": second(number)}, "resource": {"product": product}},
        )
        for at, number in enumerate(seconds)
        for product in (("access", "dns_records")[at % 2],)
    ]


async def walk(reader: Reader, **more: str) -> list[Answer]:
    """Follow the cursors to the end."""
    answers: list[Answer] = []
    cursor: dict[str, str] = {}
    while True:
        answers.append(await reader.get(PATH, {**WHOLE, "limit": "2", **more, **cursor}))
        found = answers[-1].json["result_info"]["cursor"]
        if not found:
            return answers
        cursor = {"cursor": found}


def ids(answers: Sequence[Answer]) -> list[str]:
    return [row["id"] for answer in answers for row in answer.rows]


async def test_cursors_lead_through_a_window_in_either_direction(
    simulator: Simulator, reader: Reader
) -> None:
    fill(simulator, [1, 2, 2, 2, 2, 3])

    assert ids(await walk(reader)) == ["0", "1", "2", "3", "4", "5"]
    assert sorted(ids(await walk(reader, direction="desc"))) == ["0", "1", "2", "3", "4", "5"]


async def test_page_numbers_are_ignored_and_the_count_is_a_text(
    simulator: Simulator, reader: Reader
) -> None:
    fill(simulator)

    answer = await reader.get(PATH, {**WHOLE, "page": "3", "per_page": "1"})

    assert len(answer.rows) == 9
    assert answer.json["result_info"]["count"] == "9"


async def test_before_is_no_part_of_the_window(simulator: Simulator, reader: Reader) -> None:
    fill(simulator)

    answer = await reader.get(PATH, {**WHOLE, "since": second(3), "before": second(5)})

    assert ids([answer]) == ["2", "3"]


async def test_categories_choose_products(simulator: Simulator, reader: Reader) -> None:
    fill(simulator)
    listed = await reader.get(f"{PATH}/product_categories")

    answer = await reader.get(PATH, {**WHOLE, "product_category": "DNS"})

    assert ids([answer]) == ["1", "3", "5", "7"]
    assert "dns" in {one["value"] for one in listed.rows}


async def test_wrong_parameters_are_refused(reader: Reader) -> None:
    wrong: list[dict[str, Any]] = [
        {"since": WHOLE["since"]},
        {"before": WHOLE["before"]},
        {**WHOLE, "limit": "1001"},
        {**WHOLE, "product_category": "acess"},
        {**WHOLE, "cursor": "unknown"},
    ]

    assert [(await reader.get(PATH, params)).status for params in wrong] == [400] * 5


async def test_faults_of_cursors(simulator: Simulator, reader: Reader) -> None:
    fill(simulator)
    params = {**WHOLE, "limit": "2"}
    cursor = (await reader.get(PATH, params)).json["result_info"]["cursor"]

    simulator.faults.add(Fault("repeat_cursor"))
    repeated = await reader.get(PATH, {**params, "cursor": cursor})
    simulator.faults.add(Fault("empty_page"))
    empty = await reader.get(PATH, {**params, "cursor": cursor})
    after = await reader.get(PATH, {**params, "cursor": empty.json["result_info"]["cursor"]})
    simulator.faults.add(Fault("cursor_elsewhere"))
    elsewhere = await reader.get(PATH, params)
    simulator.faults.add(Fault("forget_cursors"))
    forgotten = await reader.get(PATH, {**params, "cursor": cursor})

    assert repeated.json["result_info"]["cursor"] == cursor
    assert (empty.rows, ids([after])) == ([], ids([repeated]))
    assert elsewhere.json["result_info"]["cursors"]["after"]
    assert forgotten.status == 400


async def test_rows_that_appear_on_the_way_shift_nothing_out_of_sight(
    simulator: Simulator, reader: Reader
) -> None:
    numbers = fill(simulator)
    first = await reader.get(PATH, {**WHOLE, "limit": "3"})
    simulator.add(DEFAULT_ACCOUNT, ACCOUNT_AUDIT, {"id": "late", "action": {"time": second(1)}})
    simulator.amend(DEFAULT_ACCOUNT, ACCOUNT_AUDIT, numbers[2], {"zone": {}})

    cursor = first.json["result_info"]["cursor"]
    rest = await reader.get(PATH, {**WHOLE, "cursor": cursor})

    assert {"3", "4", "5", "6", "7", "8"} <= set(ids([rest]))
