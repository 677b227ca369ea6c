"""Which requests a fault strikes, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwarder.simulator import (
    ACCESS_REQUESTS,
    IDENTITY_PROVIDERS,
    Fault,
    Simulator,
)
from forwarder.simulator.faults import KINDS
from tests.simulator.reader import Reader


class TestWhichRequestsAreStruck:
    async def statuses(self, reader: Reader, *streams: str) -> list[int]:
        return [(await reader.read(stream)).status for stream in streams]

    async def test_those_of_a_stream_after_some_a_number_of_times(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("html", times=2, after=1, stream=ACCESS_REQUESTS))

        access, idps = ACCESS_REQUESTS, IDENTITY_PROVIDERS
        statuses = await self.statuses(reader, access, idps, access, idps, access, access)

        assert statuses == [200, 200, 502, 200, 502, 200]
        assert simulator.faults.active() == []

    async def test_those_with_a_text_in_the_path(
        self, simulator: Simulator, reader: Reader
    ) -> None:
        simulator.faults.add(Fault("html", path="page=2"))

        first = await reader.read(ACCESS_REQUESTS, {"page": "1"})
        other = await reader.read(ACCESS_REQUESTS, {"page": "2"})

        assert (first.status, other.status) == (200, 502)

    async def test_until_it_is_removed(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("html", times=None), Fault("no_date", times=None))
        struck = await self.statuses(reader, *[ACCESS_REQUESTS] * 5)
        simulator.faults.remove("html")

        assert struck == [502] * 5
        assert await self.statuses(reader, ACCESS_REQUESTS) == [200]
        assert [fault.kind for fault, _ in simulator.faults.active()] == ["no_date"]

    async def test_one_answer_is_replaced_once(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("html", status=500), Fault("html", status=503))

        statuses = await self.statuses(reader, *[ACCESS_REQUESTS] * 3)

        assert statuses == [500, 503, 200]

    async def test_a_share_of_them(self, simulator: Simulator, reader: Reader) -> None:
        simulator.faults.add(Fault("html", times=None, share=0.5))

        statuses = await self.statuses(reader, *[ACCESS_REQUESTS] * 40)

        assert 8 <= statuses.count(502) <= 32


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"html.*throttled"):
        Fault("nonsense")  # type: ignore[arg-type]


def test_every_kind_of_fault_is_tested() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]

    assert {
        kind for kind in KINDS if not any(f'Fault("{kind}"' in text for text in sources)
    } == set()
