"""Sinks close behind get the rows that were just stored, exactly as the file would give them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import LIVE, StoredPage
from forwarder.core.source_contract import Records
from forwarder.journal.reader import FreshPages, JournalReader
from forwarder.journal.storage import fresh_page
from forwarder.sources.cloudflare_access.logs import PageMaker
from tests.journal.conftest import HOUR_US, KEY, NOON_US, Opener, addition

_LIVE_LANE = 1
ROWS: list[dict[str, Any]] = [
    {"b": 1.5, "a": "ä\u2028", "created_at": "2026-09-21T14:00:00Z"},
    {"created_at": "2026-09-21T14:10:00Z", "deep": {"x": [None, True, -1]}},
    {"created_at": "2026-09-21T15:10:00Z"},
    {"created_at": "never"},
]


def read_by_source(rows: list[dict[str, Any]]) -> Records:
    return PageMaker(KEY.account_id, KEY.stream, "created_at").records(rows)


def values(page: StoredPage) -> tuple[Any, ...]:
    names = (page.first_offset, page.account_id, page.stream, page.seen_us)
    return (*names, list(page.times_us), page.ids, page.body, page.rows)


async def test_fresh_pages_are_what_the_file_holds(opened: Opener, tmp_path: Path) -> None:
    journal = await opened()
    queue = await journal.sink_queue("near", start_at="beginning")
    await journal.stream_log(KEY).append(addition(read_by_source(ROWS)))
    beside = JournalReader(tmp_path / "state")

    fresh = await queue.read(LIVE, 1, 100)
    stored = await beside.pages(_LIVE_LANE, 1, 100)
    await beside.aclose()

    assert ROWS == [row for page in fresh for row in page.rows]
    assert [values(page) for page in stored] == [values(page) for page in fresh]


async def test_rows_at_hand_are_not_parsed_again(opened: Opener) -> None:
    journal = await opened()
    queue = await journal.sink_queue("near", start_at="beginning")
    await journal.stream_log(KEY).append(addition(read_by_source(ROWS[:1])))

    (page,) = await queue.read(LIVE, 1, 100)

    assert page.rows[0] is ROWS[0]


async def test_only_new_rows_of_an_answer_are_handed_on(opened: Opener) -> None:
    journal = await opened()
    queue, log = await journal.sink_queue("near", start_at="beginning"), journal.stream_log(KEY)
    await log.append(addition(read_by_source(ROWS[:1])))
    await log.append(addition(read_by_source(ROWS[:2])))

    pages = await queue.read(LIVE, 1, 100)

    assert ROWS[:2] == [row for page in pages for row in page.rows]


async def test_a_fresh_page_that_the_file_has_not_is_nobodys(
    opened: Opener, tmp_path: Path
) -> None:
    await opened()
    fresh = FreshPages()
    fresh.offer(1, lambda: fresh_page(KEY, NOON_US, 1, read_by_source(ROWS[:1])))
    pages_of_file = JournalReader(tmp_path / "state", fresh)

    assert [] == await pages_of_file.pages(_LIVE_LANE, 1, 100)
    await pages_of_file.aclose()


def page_of(offset: int, size: int) -> StoredPage:
    return StoredPage(offset, "a", "s", HOUR_US, [], b"", b"x" * size)


def offered(sizes: Sequence[int], most: int) -> FreshPages:
    fresh = FreshPages(most)
    for offset, size in enumerate(sizes):
        fresh.offer(offset, partial(page_of, offset, size))
    return fresh


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.integers(0, 100))
def test_pages_are_held_until_there_is_no_room_for_them(sizes: list[int], most: int) -> None:
    fresh = offered(sizes, most)

    held = [page for offset in range(len(sizes)) if (page := fresh.take(offset))]

    assert list(range(len(sizes)) if sum(sizes) <= most else []) == [p.first_offset for p in held]
    assert not any(fresh.take(offset) for offset in range(len(sizes)))


def test_once_nobody_came_for_a_page_none_is_made_until_a_sink_looks_for_the_newest() -> None:
    fresh = offered([40] * 3, most=100)

    assert fresh.take(1) is None
    fresh.offer(3, lambda: pytest.fail("no sink is close behind"))
    assert fresh.take(3) is None
    fresh.offer(4, partial(page_of, 4, 40))
    assert fresh.take(4) is not None


def test_sinks_that_come_in_time_get_every_page() -> None:
    fresh = FreshPages(100)

    for offset in range(10):
        fresh.offer(offset, partial(page_of, offset, 80))
        assert fresh.take(offset) is not None
