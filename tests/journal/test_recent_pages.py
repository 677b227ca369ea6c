"""Sinks right behind one another share pages; what is held is bounded, and never wrong."""

from array import array
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import StoredPage
from forwarder.journal.reader import RecentPages

_LEAST = len(b'[{"row":""}]')


def page_of(first_offset: int, size: int) -> StoredPage:
    body = b'[{"row":"%b"}]' % (b"x" * (size - _LEAST))
    return StoredPage(first_offset, "a", "s", 0, array("q", [0]), b"i" * 16, body)


def is_parsed(page: StoredPage) -> bool:
    return "rows" in vars(page)


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 99), st.integers(0, 99))
def test_the_pages_used_last_are_held_and_fewer_of_them_parsed(
    uses: list[int], most: int, parsed: int
) -> None:
    pages = [page_of(offset, _LEAST + offset) for offset in range(10)]
    recent = RecentPages(most, parsed)

    for offset in uses:
        if recent.get(offset) is None:
            recent.put(pages[offset])
        assert pages[offset].rows == [{"row": "x" * offset}]

    order = list(dict.fromkeys(reversed(uses)))
    fits = dict(zip(order, accumulate(_LEAST + offset for offset in order), strict=True))
    held = [at for at in order if fits[at] <= most] or order[:1]
    hot = [at for at in order if fits[at] <= parsed] or order[:1]
    assert sorted(at for at in order if is_parsed(pages[at])) == sorted(hot)
    assert sorted(at for at in range(10) if recent.get(at)) == sorted(held)


def test_rows_that_were_forgotten_are_parsed_again() -> None:
    page = page_of(1, 20)
    before = page.rows

    page.forget_rows()

    assert not is_parsed(page)
    assert page.rows == before
