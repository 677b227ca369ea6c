"""Faults that make the API read a query differently."""

from __future__ import annotations

import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    DEFAULT_ACCOUNT,
    SCIM_UPDATES,
    Fault,
    Simulator,
)
from tests.simulator.conftest import numbers, second
from tests.simulator.reader import Reader

ASCENDING = {"direction": "asc"}


@pytest.mark.usefixtures("rows")
class TestQueriesThatAreMisread:
    async def ask(
        self, simulator: Simulator, reader: Reader, fault: Fault, **query: str
    ) -> list[int]:
        simulator.faults.add(fault)
        return numbers(await reader.read(ACCESS_REQUESTS, ASCENDING | query))

    async def test_page_and_direction_are_ignored(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        paged = await self.ask(simulator, reader, Fault("ignore_page"), page="2", limit="3")
        turned = await self.ask(simulator, reader, Fault("ignore_direction"))

        assert paged == [1, 2, 3]
        assert turned == list(range(9, 0, -1))

    async def test_since_excludes_or_includes_its_own_instant(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        exclusive = await self.ask(simulator, reader, Fault("exclusive_since"), since=second(8))
        inclusive = await self.ask(simulator, reader, Fault("inclusive_since"), since=second(8))

        assert (exclusive, inclusive) == ([9], [8, 9])

    async def test_since_is_cut_to_the_second(self, simulator: Simulator, reader: Reader) -> None:
        since = second(8, ".75")

        exact = numbers(await reader.read(ACCESS_REQUESTS, {"since": since}))
        cut = await self.ask(simulator, reader, Fault("whole_second_since"), since=since)

        assert (exact, cut) == ([9], [8, 9])

    async def test_a_page_holds_fewer_rows_than_asked(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        assert await self.ask(simulator, reader, Fault("small_page", count=2)) == [1, 2]

    async def test_rows_come_from_outside_the_window(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        fault = Fault("outside_window", seconds=2)
        window = {"since": second(5), "until": second(6)}

        assert await self.ask(simulator, reader, fault, **window) == [3, 4, 5, 6, 7, 8]

    async def test_the_previous_page_comes_again(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        first = await reader.read(ACCESS_REQUESTS, {"limit": "2"})
        again = await self.ask(simulator, reader, Fault("repeat_page"), page="2", limit="2")

        assert again == numbers(first) == [9, 8]

    async def test_keys_come_in_another_order(self, simulator: Simulator, reader: Reader) -> None:
        plain = await reader.read(ACCESS_REQUESTS)
        simulator.faults.add(Fault("shuffle_keys"))
        shuffled = await reader.read(ACCESS_REQUESTS)

        assert plain.rows == shuffled.rows
        assert plain.raw != shuffled.raw


async def test_the_provider_asked_for_is_ignored(simulator: Simulator, reader: Reader) -> None:
    okta, entra = simulator.directory(DEFAULT_ACCOUNT).provisioning()
    simulator.add(DEFAULT_ACCOUNT, SCIM_UPDATES, {"idp_id": okta})
    simulator.faults.add(Fault("ignore_idp_id"))

    ignored = await reader.read(SCIM_UPDATES, {"idp_id": entra})
    heeded = await reader.read(SCIM_UPDATES, {"idp_id": entra})

    assert (len(ignored.rows), len(heeded.rows)) == (1, 0)
