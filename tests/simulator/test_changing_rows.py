"""Faults that change the stored rows, or how rows arrive."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    Fault,
    ManualClock,
    Simulator,
    SimulatorSettings,
)
from forwarder.simulator.feed import VARIANTS, read_row
from tests.simulator.conftest import NOON, numbers, second
from tests.simulator.reader import Reader

LAST = 9
ASCENDING = {"direction": "asc"}


@pytest.mark.usefixtures("rows")
class TestRowsThatChange:
    async def test_rows_expire_while_a_window_is_read(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("expire", after=1, seconds=NOON - 1_789_999_985.5))
        query = {"direction": "asc", "limit": "2"}

        before = await reader.read(ACCESS_REQUESTS, query)
        shifted = await reader.read(ACCESS_REQUESTS, query | {"page": "2"})

        assert (numbers(before), numbers(shifted)) == ([1, 2], [8, 9])

    async def test_a_value_is_amended_later(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("amend", after=1, count=2, key="n", value=0))

        before = await reader.read(ACCESS_REQUESTS, ASCENDING)
        after = await reader.read(ACCESS_REQUESTS, ASCENDING)

        assert numbers(before) == list(range(1, 10))
        assert numbers(after) == [1, 2, 3, 4, 5, 6, 7, 0, 0]

    async def test_an_amended_row_is_amended_again_and_stays_one_row(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(*[Fault("amend", after=1, count=1, key="n", value=v) for v in (0, -1)])

        answers = [await reader.read(ACCESS_REQUESTS, ASCENDING) for _ in range(3)]
        amended_again = simulator.amend(DEFAULT_ACCOUNT, ACCESS_REQUESTS, LAST, {"n": -2})
        answers.append(await reader.read(ACCESS_REQUESTS, ASCENDING))

        with pytest.raises(ValueError, match="newest version"):
            simulator.amend(DEFAULT_ACCOUNT, ACCESS_REQUESTS, LAST, {"n": -3})
        assert amended_again > LAST
        assert [len(answer.rows) for answer in answers] == [LAST] * 4

    async def test_a_second_holds_more_rows_than_a_page(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("burst", count=30))

        answer = await reader.read(ACCESS_REQUESTS)

        assert len(answer.rows) == 25
        assert {row["created_at"] for row in answer.rows} == {"2026-09-21T14:13:20Z"}
        assert len({row["ray_id"] for row in answer.rows}) == 25

    @pytest.mark.parametrize("variant", VARIANTS)
    async def test_a_body_that_orjson_refuses(
        self, simulator: Simulator, reader: Reader, variant: str
    ) -> None:
        simulator.faults.add(Fault("unreadable", count=1, value=variant))

        answer = await reader.read(ACCESS_REQUESTS)

        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(answer.raw)
        assert VARIANTS[variant] in answer.raw
        assert len(simulator.shown(DEFAULT_ACCOUNT, ACCESS_REQUESTS)) == LAST + 1


class TestRowsThatArrive:
    async def test_rows_become_visible_late(self) -> None:
        clock = ManualClock(NOON)
        late = Fault("late", times=None, seconds=60, stream=ACCESS_REQUESTS)
        settings = SimulatorSettings(rate=4, history=30, faults=(late,))
        async with Simulator(settings, clock=clock) as simulator:
            reader = Reader(simulator.url)
            early = await reader.read(ACCESS_REQUESTS)
            clock.advance(45)
            middle = await reader.read(ACCESS_REQUESTS, {"limit": "1000"})

        assert early.rows == []
        assert 40 < len(middle.rows) < 80
        assert max(row["created_at"] for row in middle.rows) < "2026-09-21T14:13:06Z"

    async def test_a_row_arrives_twice(self) -> None:
        twins = Fault("twins", times=3, count=4, stream=ACCESS_REQUESTS)
        settings = SimulatorSettings(rate=4, history=30, faults=(twins,))
        async with Simulator(settings, clock=ManualClock(NOON)) as simulator:
            answer = await Reader(simulator.url).read(ACCESS_REQUESTS, {"limit": "1000"})

        copies = Counter(map(orjson.dumps, answer.rows)).values()
        assert Counter(copies) == {1: len(copies) - 3, 4: 3}

    async def test_an_added_row_waits_until_it_may_be_seen(
        self, simulator: Simulator, clock: ManualClock, reader: Reader
    ) -> None:
        row = {"created_at": second(1)}
        simulator.add(DEFAULT_ACCOUNT, ACCESS_REQUESTS, row, visible_at=NOON + 5)

        before = await reader.read(ACCESS_REQUESTS)
        clock.advance(5)
        after = await reader.read(ACCESS_REQUESTS)

        assert (before.rows, after.rows) == ([], [row])


def test_what_nobody_can_read_is_kept_as_text() -> None:
    assert read_row(b"[1]") == {"unreadable": "[1]"}
    assert read_row(b'{"a":"\xe9"}') == {"unreadable": '{"a":"\\xe9"}'}
    assert read_row(b'{"a":"\\ud800"}') == {"a": "\ud800"}
