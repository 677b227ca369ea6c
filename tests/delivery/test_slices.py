"""Pages are cut into slices: every row once, whatever the rows look like."""

from array import array
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import StoredPage
from forwarder.delivery.slices import slices

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", '\\"', "{", "}", "[", "]", '},{"', "\\\\", "]}"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), min_size=1, max_size=25)


def _page(rows: list[dict[str, Any]], first: int = 7, *, blanks: bool = False) -> StoredPage:
    texts = [orjson.dumps(row, option=orjson.OPT_INDENT_2 if blanks else None) for row in rows]
    return StoredPage(
        first_offset=first,
        account_id="acme",
        stream="access_requests",
        seen_us=5,
        times_us=array("q", range(len(rows))),
        ids=b"".join(bytes([n]) * 16 for n in range(len(rows))),
        body=b"[%b]" % (b" ,\n" if blanks else b",").join(texts),
    )


def _check(
    rows: list[dict[str, Any]], page: StoredPage, start: int, most: int, whole: int = 10**6
) -> None:
    parts = [part for part in slices([page], start, most=most, whole=whole) if part is not None]
    skipped = max(0, start - page.first_offset)

    assert [row for part in parts for row in part.rows] == rows[skipped:]
    assert [id_ for part in parts for id_ in part.hex_ids] == page.hex_ids[skipped:]
    assert [at for part in parts for at in part.times_us] == list(page.times_us)[skipped:]
    assert all(here.end_offset == there.first_offset for here, there in pairwise(parts))
    assert not parts or parts[-1].end_offset == page.end_offset


@given(ROWS, st.integers(0, 40), st.integers(1, 300))
def test_the_slices_of_a_page_hold_every_row_from_the_start_on_once(
    rows: list[dict[str, Any]], start: int, most: int
) -> None:
    _check(rows, _page(rows), min(start, 7 + len(rows)), most)


@given(rows=ROWS, start=st.integers(0, 40), most=st.integers(1, 300), blanks=st.booleans())
def test_a_large_page_is_cut_between_its_rows_without_parsing_it_whole(
    *, rows: list[dict[str, Any]], start: int, most: int, blanks: bool
) -> None:
    page = _page(rows, blanks=blanks)
    _check(rows, page, min(start, 7 + len(rows)), most, whole=0)

    assert not page.parsed


def test_a_page_that_is_one_slice_is_taken_as_it_is() -> None:
    page = _page([{"n": 1}, {"n": 2}])

    assert list(slices([page, page], 0)) == [page, page]
    assert list(slices([page], 7)) == [page]


def test_wherever_reading_starts_the_cuts_are_the_same() -> None:
    page = _page([{"n": n} for n in range(10)])
    parts = [part for part in slices([page], 0, most=3 * page.row_bytes) if part]
    later = [part for part in slices([page], 9, most=3 * page.row_bytes) if part]

    assert [part.first_offset for part in parts] == [7, 10, 13, 16]
    assert [part.first_offset for part in later] == [9, 10, 13, 16]


def test_text_whose_rows_are_not_what_they_look_like_is_parsed_whole() -> None:
    rows: list[Any] = [{"n": 0}, 5, {"n": 2}, {"n": 3}]
    page = _page(rows)
    parts = [part for part in slices([page], 0, most=1, whole=0) if part]

    assert [row for part in parts for row in part.rows] == rows


def test_others_may_run_after_every_slice_of_one_page_or_of_many() -> None:
    large, small = _page([{"n": n} for n in range(9)]), _page([{"n": 1}])
    most = 3 * large.row_bytes

    assert [part is None for part in slices([large], 0, most=most)] == [True, False] * 3
    some = [part is None for part in slices([small] * 9, 0, most=most)]
    assert (some.count(True), some.count(False)) == (3, 9)
