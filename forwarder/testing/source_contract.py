"""What every source must do, as tests. Subclass it and provide an ``origin`` fixture.

    class TestMySource(SourceContract):
        @pytest.fixture
        async def origin(self) -> AsyncIterator[MyOrigin]:
            async with MyOrigin() as origin:
                yield origin

An origin is the other side, which the tests fill with rows, and a source that reads it. A log whose
pages are linked by cursors keeps ``CursorContract``, too; its origin is a ``CursorOrigin``.

A source that is pushed has ``PushSourceContract`` instead. There the origin sends over a real
connection to a source that it has started, over a ``MemoryIntake`` in place of the journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
import pytest

from forwarder.core.contracts import Page, Record, Window
from forwarder.core.errors import NotTakingError, TransientError
from forwarder.core.identity import SIZE
from forwarder.core.source_contract import PushedPart, Source

_MOST_PAGES = 1000


class Origin(Protocol):
    """The other side of a source, under the control of a test."""

    parts: Sequence[str]
    """What ``fetch`` is given as parts; empty for a stream without."""

    def source(self) -> Source:
        """Return a new source over this origin, with small pages if possible."""
        ...

    def window(self) -> Window:
        """Return a window around all rows that are added."""
        ...

    def add(self, count: int, *, twins: bool = False) -> None:
        """Add ``count`` rows with times inside the window, all equal if ``twins``."""
        ...

    def add_malformed(self) -> None:
        """Add a malformed row inside the window: invalid JSON, or not an object."""
        ...

    def break_down(self) -> None:
        """Answer the next request with an outage, and no other one."""
        ...


class CursorOrigin(Origin, Protocol):
    """The other side of a log with cursors, whose rows have ids of their own."""

    def add(self, count: int, *, twins: bool = False, together: bool = False) -> None:
        """Add rows as any origin does; ``together`` all of one instant. Twins have no id."""
        ...

    def amend(self) -> None:
        """Give the first row other content in all later answers; its id stays."""
        ...

    def forget_cursors(self) -> None:
        """Refuse, with the next request, all cursors that were given out before."""
        ...

    def repeat_cursor(self, times: int | None) -> None:
        """Answer the next ``times`` requests (None: all) with the cursor that was sent."""
        ...

    def send_empty_page(self) -> None:
        """Answer the next request with no rows, and a cursor that leads to them."""
        ...


async def read(
    source: Source, origin: Origin, position: Any | None = None, *, pages: int = _MOST_PAGES
) -> list[Page]:
    """Read ``origin``'s window from ``position`` to its end, as the poller does.

    Positions go through JSON on their way. Fails when the window has no end.
    """
    found: list[Page] = []
    while len(found) < pages:
        page = await source.fetch(origin.window(), position, parts=origin.parts)
        found.append(page)
        position = orjson.loads(orjson.dumps(page.position))
        if position is None:
            return found
    assert pages < _MOST_PAGES, "the window has no end"
    return found


def identities(pages: Sequence[Page]) -> set[bytes]:
    """Return the identities of all rows of some pages."""
    return {record.identity for page in pages for record in page.records}


class SourceContract:
    """True for every source."""

    async def test_every_row_of_a_window_is_read(self, origin: Origin) -> None:
        origin.add(30)

        assert len(identities(await read(origin.source(), origin))) == 30  # noqa: PLR2004

    async def test_an_empty_window_has_an_end(self, origin: Origin) -> None:
        pages = await read(origin.source(), origin)

        assert not identities(pages)

    async def test_a_row_is_a_json_object_with_an_identity_and_its_keys(
        self, origin: Origin
    ) -> None:
        origin.add(3)

        for page in await read(origin.source(), origin):
            for record in page.records:
                assert set(orjson.loads(record.row)) == record.keys
                assert len(record.identity) == SIZE
                assert record.time_us is None or isinstance(record.time_us, int)

    async def test_times_lie_in_the_window(self, origin: Origin) -> None:
        origin.add(3)
        window = origin.window()

        times = [r.time_us for page in await read(origin.source(), origin) for r in page.records]
        assert all(t is not None and window.since_us <= t <= window.until_us for t in times)

    async def test_reading_again_gives_the_same_identities(self, origin: Origin) -> None:
        origin.add(12)

        first = identities(await read(origin.source(), origin))
        assert first == identities(await read(origin.source(), origin))

    async def test_another_source_continues_from_every_position(self, origin: Origin) -> None:
        origin.add(30)
        whole = await read(origin.source(), origin)

        for count, page in enumerate(whole[:-1], start=1):
            position = orjson.loads(orjson.dumps(page.position))
            rest = await read(origin.source(), origin, position)
            assert identities(whole[:count]) | identities(rest) == identities(whole)

    async def test_an_unknown_position_starts_the_window_over(self, origin: Origin) -> None:
        origin.add(5)

        pages = await read(origin.source(), origin, {"from": "another version"})
        assert identities(pages) == identities(await read(origin.source(), origin))

    async def test_twins_of_one_answer_are_all_kept(self, origin: Origin) -> None:
        origin.add(2, twins=True)

        pages = await read(origin.source(), origin)
        rows = Counter(record.row for page in pages[:1] for record in page.records)
        assert set(rows.values()) == {2}
        assert len(identities(pages)) == 2  # noqa: PLR2004

    async def test_a_broken_row_is_a_record_and_hides_no_other(self, origin: Origin) -> None:
        origin.add(4)
        origin.add_malformed()

        pages = await read(origin.source(), origin)
        assert len(identities(pages)) == 5  # noqa: PLR2004
        assert any(page.malformed for page in pages)

    async def test_an_outage_is_transient_and_the_same_call_works_later(
        self, origin: Origin
    ) -> None:
        origin.add(5)
        source = origin.source()
        origin.break_down()

        with pytest.raises(TransientError):
            await read(source, origin)
        assert len(identities(await read(source, origin))) == 5  # noqa: PLR2004

    async def test_the_other_side_tells_the_time(self, origin: Origin) -> None:
        assert await origin.source().server_time_us() > 0

    async def test_parts_come_with_a_memory_that_can_be_kept(self, origin: Origin) -> None:
        source, now_us = origin.source(), origin.window().until_us

        first = await source.parts(None, now_us)
        again = await source.parts(orjson.loads(orjson.dumps(first.memory)), now_us)
        assert first.ids == again.ids


class CursorContract(SourceContract):
    """True for every source whose log has cursors and ids."""

    async def test_a_row_with_other_content_is_the_same_row(self, origin: CursorOrigin) -> None:
        origin.add(12)
        source = origin.source()
        first = identities(await read(source, origin))
        origin.amend()

        pages = await read(source, origin)
        assert identities(pages) == first
        assert sum(page.amended for page in pages) == 1

    async def test_a_position_whose_cursor_is_refused_loses_nothing(
        self, origin: CursorOrigin
    ) -> None:
        origin.add(30)
        source = origin.source()
        (first,) = await read(source, origin, pages=1)
        origin.forget_cursors()

        rest = await read(origin.source(), origin, first.position)
        assert len(identities([first, *rest])) == 30  # noqa: PLR2004
        assert not any(page.lost for page in rest)

    async def test_a_cursor_that_repeats_hides_nothing(self, origin: CursorOrigin) -> None:
        origin.add(30)
        source = origin.source()
        (first,) = await read(source, origin, pages=1)
        origin.repeat_cursor(1)

        rest = await read(source, origin, first.position)
        assert len(identities([first, *rest])) == 30  # noqa: PLR2004

    async def test_cursors_that_never_lead_on_have_an_end(self, origin: CursorOrigin) -> None:
        origin.add(30)
        origin.repeat_cursor(None)

        pages = await read(origin.source(), origin)
        lost = [one for page in pages for one in page.lost]
        assert len(identities(pages)) == 30 or lost  # noqa: PLR2004

    async def test_an_empty_page_with_a_cursor_is_no_end(self, origin: CursorOrigin) -> None:
        origin.add(30)
        origin.send_empty_page()

        assert len(identities(await read(origin.source(), origin))) == 30  # noqa: PLR2004

    async def test_rows_of_one_instant_are_all_read(self, origin: CursorOrigin) -> None:
        """More of them than a page holds: no time leads past them, and the cursor does."""
        origin.add(40, together=True)

        assert len(identities(await read(origin.source(), origin))) == 40  # noqa: PLR2004


class MemoryIntake:
    """A ``core.source_contract.Intake`` without a disk; it outlives the sources of a test."""

    def __init__(self, accounts: Sequence[tuple[str, str]] = (("a" * 32, "acme"),)) -> None:
        """Know accounts by id and label."""
        self._accounts = accounts
        self._parts: dict[tuple[str, str], PushedPart] = {}
        self._closed = ""
        self._elsewhere = ""
        self._here = ""
        self._failures = 0

    def account(self, name: str) -> tuple[str, str] | None:
        """Return id and label of the account with this id or label."""
        return next((one for one in self._accounts if name in one), None)

    def elsewhere(self, account_id: str) -> str:  # noqa: ARG002 - one place for all
        """Return what ``lead`` said last; empty at first."""
        return self._elsewhere

    def here(self) -> str:
        """Return what ``listen`` said last; empty at first."""
        return self._here

    async def admit(self, account_id: str) -> None:  # noqa: ARG002 - one state for all
        """Raise while the intake is closed."""
        if self._closed:
            raise NotTakingError(self._closed, "closed by the test")

    async def streams(self, account_id: str) -> set[str]:
        """Return the streams of an account of which there is a part."""
        return {one.key.stream for one in self.parts if one.key.account_id == account_id}

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

    def lead(self, url: str) -> None:
        """Let another source take what comes, at its base URL; empty for nobody else."""
        self._elsewhere = url

    def listen(self, url: str) -> None:
        """Let the source of this intake be known to others by its base URL."""
        self._here = url

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
