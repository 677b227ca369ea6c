"""Cuts a stored page into slices, so that no page holds the event loop for long. Pure.

Rendering a row may take milliseconds (a SCIM change of a group with 640 members), and a page may
hold a thousand of them. The caller renders one slice at a time and lets others run in between.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise

import orjson

from forwarder.core.contracts import StoredPage

_SLICE_BYTES = 1024 * 1024
"""About the bytes of one slice; at worst its rows take a quarter of a second.

A usual page fits into one slice, so sinks with one format share what they render of it.
"""
_MOST_PARSED = 4 * 2**20
"""Bytes of a body that may be parsed at once: the rows take several times as much memory."""
_BRACKET = re.compile(
    # Everything up to the next bracket that stands in no string. Possessive, so that nothing is
    # tried twice.
    rb'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+([{}\[\]])',
    re.DOTALL,
)


def slices(
    pages: Sequence[StoredPage],
    start: int,
    *,
    most: int = _SLICE_BYTES,
    whole: int = _MOST_PARSED,
) -> Iterator[StoredPage | None]:
    """Yield the rows at or after offset ``start`` as pages of about ``most`` bytes each.

    After about ``most`` bytes of work comes a None: the caller lets others run then. A body of more
    than ``whole`` bytes is not parsed at once. Each page is dropped once it is used up.
    """
    left, work = deque(pages), 0
    while left:
        page = left.popleft()
        whole_page = len(page.body) <= whole or page.parsed
        cut = _of_parsed if whole_page else _of_text
        for part in cut(page, max(start, page.first_offset), most):
            work += most if part is None else part.row_bytes * part.count
            if work >= most:
                work = 0
                yield None
            if part is not None:
                yield part


def _of_parsed(page: StoredPage, start: int, most: int) -> Iterator[StoredPage]:
    """Cut by number, as if all rows were of one size; the page itself where that is one slice."""
    rows = max(1, most // page.row_bytes)
    if start == page.first_offset and rows >= page.count:
        yield page
        return
    first = start - page.first_offset
    # Cut at the same places wherever the reading starts: sinks share the slices they rendered.
    edges = [first, *range((first // rows + 1) * rows, page.count, rows), page.count]
    for low, high in pairwise(edges):
        yield page.part(low, high, page.rows[low:high])


def _of_text(page: StoredPage, start: int, most: int) -> Iterator[StoredPage | None]:
    """Cut between the rows of the text, without parsing what is not needed yet."""
    low, done = 0, 1
    for high, end in enumerate(_row_ends(page.body), 1):
        if end - done < most and high < page.count:
            continue
        at = max(low, start - page.first_offset)
        if at >= high:
            yield None
        else:
            rows = orjson.loads(b"[%b]" % page.body[done:end].lstrip(b", \t\r\n"))
            if len(rows) != high - low:
                break
            yield page.part(at, high, rows[at - low :])
        low, done = high, end
    # Rows that are not objects are not seen above; a page that is parsed whole is never wrong.
    if low < page.count:
        yield from _of_parsed(page, max(start, page.first_offset + low), most)


def _row_ends(body: bytes) -> Iterator[int]:
    """Yield where each object of a JSON array of objects ends."""
    depth = 0
    for found in _BRACKET.finditer(body):
        if found[1] in b"{[":
            depth += 1
        else:
            depth -= 1
            if depth == 1:
                yield found.end()
