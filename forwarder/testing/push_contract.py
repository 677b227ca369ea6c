"""What every push source must do, as tests. Subclass it and provide an ``origin`` fixture.

    class TestMyReceiver(PushSourceContract):
        @pytest.fixture
        async def origin(self) -> AsyncIterator[MySender]:
            async with MySender(MemoryIntake()) as sender:
                yield sender

An origin is the other side, which sends over a real connection to a source that it has started.
``MemoryIntake`` stands in for the journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import orjson

from forwarder.core.contracts import Record
from forwarder.core.errors import NotTakingError, TransientError
from forwarder.core.identity import SIZE
from forwarder.core.source_contract import PushedPart


class MemoryIntake:
    """A ``core.source_contract.Intake`` without a disk; it outlives the sources of a test."""

    def __init__(self, accounts: Sequence[tuple[str, str]] = (("a" * 32, "acme"),)) -> None:
        """Know accounts by id and label."""
        self._accounts = accounts
        self._parts: dict[tuple[str, str], PushedPart] = {}
        self._closed = ""
        self._failures = 0

    def account(self, name: str) -> tuple[str, str] | None:
        """Return id and label of the account with this id or label."""
        return next((one for one in self._accounts if name in one), None)

    async def admit(self) -> None:
        """Raise while the intake is closed."""
        if self._closed:
            raise NotTakingError(self._closed, "closed by the test")

    async def store(self, part: PushedPart) -> bool:
        """Keep a part, unless one of its stream has had the same name."""
        if self._failures:
            self._failures -= 1
            raise TransientError("failed by the test")
        name = (str(part.key), part.name)
        return self._parts.setdefault(name, part) is part

    def close(self, result: str = "gate_closed") -> None:
        """Take nothing until ``open``."""
        self._closed = result

    def open(self) -> None:
        """Take what comes."""
        self._closed = ""

    def fail(self, times: int = 1) -> None:
        """Fail to store so many times."""
        self._failures = times

    @property
    def parts(self) -> list[PushedPart]:
        """Return what was stored, in order."""
        return list(self._parts.values())

    @property
    def records(self) -> list[Record]:
        """Return the records of all parts."""
        return [record for part in self.parts for record in part.records]


class PushOrigin(Protocol):
    """The other side of a push source, under the control of a test."""

    intake: MemoryIntake

    async def push(self, rows: Sequence[bytes], *, secret: bool = True) -> bool:
        """Send rows, valid or not, as one body; return True if the source has taken them.

        Without ``secret`` nothing proves who sends.
        """
        ...

    async def restart(self) -> None:
        """Stop the source, and start another one over the same intake."""
        ...

    def row(self, number: int) -> bytes:
        """Return a valid row; equal numbers give equal rows."""
        ...


class PushSourceContract:
    """True for every push source."""

    async def test_what_is_taken_is_stored(self, origin: PushOrigin) -> None:
        taken = await origin.push([origin.row(number) for number in range(30)])

        assert taken
        assert len(origin.intake.records) == 30  # noqa: PLR2004

    async def test_a_row_is_a_json_object_with_an_identity_and_its_keys(
        self, origin: PushOrigin
    ) -> None:
        await origin.push([origin.row(number) for number in range(3)])

        for record in origin.intake.records:
            assert set(orjson.loads(record.row)) == record.keys
            assert len(record.identity) == SIZE
            assert record.time_us is None or isinstance(record.time_us, int)

    async def test_nothing_is_taken_of_a_stranger(self, origin: PushOrigin) -> None:
        taken = await origin.push([origin.row(1)], secret=False)

        assert not taken
        assert not origin.intake.records

    async def test_nothing_is_taken_while_nothing_can_be_stored(self, origin: PushOrigin) -> None:
        origin.intake.close()
        refused = await origin.push([origin.row(1)])
        origin.intake.open()
        taken = await origin.push([origin.row(1)])

        assert (refused, taken) == (False, True)
        assert len(origin.intake.records) == 1

    async def test_what_could_not_be_stored_is_not_taken(self, origin: PushOrigin) -> None:
        origin.intake.fail()
        refused = await origin.push([origin.row(1)])
        taken = await origin.push([origin.row(1)])

        assert (refused, taken) == (False, True)
        assert len(origin.intake.records) == 1

    async def test_what_comes_again_is_taken_and_stored_once(self, origin: PushOrigin) -> None:
        rows = [origin.row(number) for number in range(5)]
        first = await origin.push(rows)
        await origin.restart()
        again = await origin.push(rows)

        assert (first, again) == (True, True)
        assert len(origin.intake.records) == 5  # noqa: PLR2004

    async def test_twins_of_one_body_are_all_kept(self, origin: PushOrigin) -> None:
        await origin.push([origin.row(1), origin.row(1)])

        assert len({record.identity for record in origin.intake.records}) == 2  # noqa: PLR2004

    async def test_equal_rows_of_two_bodies_have_one_identity(self, origin: PushOrigin) -> None:
        await origin.push([origin.row(1), origin.row(2)])
        await origin.push([origin.row(1), origin.row(3)])

        counts = Counter(record.identity for record in origin.intake.records)
        assert sorted(counts.values()) == [1, 1, 2]

    async def test_a_broken_row_is_a_record_and_hides_no_other(self, origin: PushOrigin) -> None:
        taken = await origin.push([origin.row(1), b"no row", origin.row(2)])

        assert taken
        assert len(origin.intake.records) == 3  # noqa: PLR2004
        assert sum(part.malformed for part in origin.intake.parts) == 1
