"""Sinks close behind get the rows that were just stored, exactly as the file would give them."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.model import LIVE, StoredPage
from forwarder.core.records import Records
from forwarder.journal.fresh import FreshPages
from forwarder.journal.pages import fresh_page
from forwarder.journal.shelf import Shelf
from forwarder.sources.cloudflare_access.pages import PageMaker
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
    beside = Shelf(tmp_path / "state")

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
    page = fresh_page(KEY, NOON_US, 1, read_by_source(ROWS[:1]))
    assert page is not None
    fresh.put(page)
    shelf = Shelf(tmp_path / "state", fresh)

    assert [] == await shelf.pages(_LIVE_LANE, 1, 100)
    await shelf.aclose()


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(0, 100))
def test_fresh_pages_take_no_more_room_than_they_may(sizes: list[int], most: int) -> None:
    fresh = FreshPages(most)
    for offset, size in enumerate(sizes):
        fresh.put(StoredPage(offset, "a", "s", HOUR_US, [], b"", b"x" * size))

    held = [page for offset in range(len(sizes)) if (page := fresh.take(offset))]

    assert most >= sum(len(page.body) for page in held)
    assert [page.first_offset for page in held] == list(range(len(sizes)))[len(sizes) - len(held) :]
    assert not any(fresh.take(offset) for offset in range(len(sizes)))
    fresh.put(StoredPage(len(sizes), "a", "s", HOUR_US, [], b"", b"x" * most))
    assert fresh.take(len(sizes)) is not None
