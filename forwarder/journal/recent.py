"""Pages that sinks have read last, for the sinks right behind them."""

from __future__ import annotations

from collections import OrderedDict

from forwarder.core.model import StoredPage

_MOST_BYTES = 4 * 2**20
_PARSED_BYTES = 2**20


class RecentPages:
    """The pages used last, as many as ``most_bytes`` of bodies; one at least.

    Parsed rows take several times the bytes of their body, so only the pages used last of all, up
    to ``parsed_bytes`` of bodies, keep theirs: whoever is further behind parses them again, which
    costs less than to read the page again. Belongs to the thread that reads for the sinks.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES, parsed_bytes: int = _PARSED_BYTES) -> None:
        """Hold nothing yet."""
        self._whole = _Used(most_bytes)
        self._parsed = _Used(parsed_bytes)

    def get(self, first_offset: int) -> StoredPage | None:
        """Return the page that starts there, if it is still held."""
        page = self._whole.pages.get(first_offset)
        if page is not None:
            self.put(page)
        return page

    def put(self, page: StoredPage) -> None:
        """Hold ``page`` as the one used last."""
        self._whole.use(page)
        for old in self._parsed.use(page):
            old.forget_rows()


class _Used:
    """Pages in the order of their last use, and the bytes of their bodies."""

    def __init__(self, most_bytes: int) -> None:
        self.pages: OrderedDict[int, StoredPage] = OrderedDict()
        self._most_bytes = most_bytes
        self._held = 0

    def use(self, page: StoredPage) -> list[StoredPage]:
        """Count ``page`` as used last; return those that there is no room for any more."""
        if page.first_offset not in self.pages:
            self._held += len(page.body)
        self.pages[page.first_offset] = page
        self.pages.move_to_end(page.first_offset)
        gone = []
        while self._held > self._most_bytes and len(self.pages) > 1:
            gone.append(self.pages.popitem(last=False)[1])
            self._held -= len(gone[-1].body)
        return gone
