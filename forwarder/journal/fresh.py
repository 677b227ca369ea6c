"""Pages on their way to sinks close behind: what was just stored need not be parsed once more."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from forwarder.core.model import StoredPage

_MOST_BYTES = 2**20


class FreshPages:
    """The newest pages, parsed, until they are taken or newer ones need their room.

    Put in after their commit by the event loop, taken by the thread that reads for the sinks,
    which finds them in the file first. So they save work and decide nothing.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        """Hold pages whose bodies have ``most_bytes`` together."""
        self._most_bytes = most_bytes
        self._held = 0
        self._pages: OrderedDict[int, StoredPage] = OrderedDict()
        self._lock = Lock()

    def put(self, page: StoredPage) -> None:
        """Hold a page, and let go of the oldest that there is no room for."""
        with self._lock:
            self._pages[page.first_offset] = page
            self._held += len(page.body)
            while self._held > self._most_bytes:
                self._held -= len(self._pages.popitem(last=False)[1].body)

    def take(self, first_offset: int) -> StoredPage | None:
        """Return the page that starts there and forget it; None for one that is not here."""
        with self._lock:
            page = self._pages.pop(first_offset, None)
            self._held -= len(page.body) if page else 0
            return page
