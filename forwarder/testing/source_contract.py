"""What every source must do, as tests. Subclass it and provide an ``origin`` fixture.

    class TestMySource(SourceContract):
        @pytest.fixture
        async def origin(self) -> AsyncIterator[MyOrigin]:
            async with MyOrigin() as origin:
                yield origin

An origin is the other side, which the tests fill with rows, and a source that reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
import pytest

from forwarder.core.contracts import Page, Window
from forwarder.core.errors import TransientError
from forwarder.core.identity import SIZE
from forwarder.core.source_contract import Source

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
