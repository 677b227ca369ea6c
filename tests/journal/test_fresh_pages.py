"""Sinks close behind get the rows that were just stored, exactly as the file would give them."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import LIVE, StoredPage
from forwarder.core.source_contract import Records
from forwarder.journal.database import SqliteEngine
from forwarder.journal.reader import JournalReader, PageCache
from forwarder.journal.storage import fresh_page
from forwarder.sources.cloudflare_access.logs import PageMaker
from tests.journal.conftest import HOUR_US, KEY, NOON_US, Opener, addition

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
    apart = JournalReader(SqliteEngine(tmp_path / "state"))

    fresh = await queue.read(LIVE, 1, 100)
    stored = await apart.pages(LIVE, 1, 100)
    await apart.aclose()

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
    cache, page = PageCache(), fresh_page(KEY, NOON_US, 1, read_by_source(ROWS[:1]))
    assert page is not None
    cache.put(page)
    pages_of_file = JournalReader(SqliteEngine(tmp_path / "state"), cache)

    assert [] == await pages_of_file.pages(LIVE, 1, 100)
    await pages_of_file.aclose()


def page_of(offset: int, size: int) -> StoredPage:
    return StoredPage(offset, "a", "s", HOUR_US, [], b"", b"x" * size)


@given(
    uses=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    sizes=st.lists(st.integers(1, 50), min_size=10, max_size=10),
    most=st.integers(0, 120),
)
def test_the_pages_used_last_are_held_and_one_at_least(
    uses: list[int], sizes: list[int], most: int
) -> None:
    cache = PageCache(most)
    for offset in uses:
        if cache.get(offset) is None:
            cache.put(page_of(offset, sizes[offset]))

    held = [offset for offset in range(10) if cache.get(offset)]
    assert uses[-1] in held
    assert len(held) == 1 or sum(sizes[offset] for offset in held) <= most


def test_pages_that_nobody_comes_for_are_not_held_until_a_sink_has_caught_up() -> None:
    cache = PageCache(100)
    for offset in range(1, 5):
        cache.offer(page_of(offset, 40))
    held_for_nobody = [cache.get(offset) for offset in (1, 2, 3)]
    cache.offer(page_of(5, 40))
    not_yet = cache.get(5)
    cache.offer(page_of(6, 40))

    assert [None, None, None] == held_for_nobody
    assert not_yet is None
    assert cache.get(6) is not None


def test_pages_are_held_for_a_sink_close_behind() -> None:
    cache = PageCache(100)
    for offset in range(1, 9):
        cache.offer(page_of(offset, 40))
        assert offset == 1 or cache.get(offset - 1) is not None
