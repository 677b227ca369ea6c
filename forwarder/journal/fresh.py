"""Pages on their way to sinks close behind: what was just stored need not be parsed once more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from forwarder.core.model import StoredPage

_MOST_BYTES = 2**20


class FreshPages:
    """The newest pages, parsed, until they are taken or newer ones need their room.

    Offered after their commit by the event loop, taken by the thread that reads for the sinks,
    which finds them in the file first. So they save work and decide nothing.

    A page that had to go before anybody took it shows that no sink is close behind. Then none is
    held until one looks for the newest: parsed rows that nobody takes only cost room in the
    processor's caches, which makes reading the next ones dearer.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        """Hold pages whose bodies have ``most_bytes`` together."""
        self._most_bytes = most_bytes
        self._held = 0
        self._pages: OrderedDict[int, StoredPage] = OrderedDict()
        self._newest = 0
        self._followed = True
        self._lock = Lock()

    def offer(self, first_offset: int, make: Callable[[], StoredPage | None]) -> None:
        """Hold the page that ``make`` gives, if a sink may come for it; None is no page."""
        with self._lock:
            self._newest = first_offset
            page = make() if self._followed else None
            if page is None:
                return
            self._pages[first_offset] = page
            self._held += len(page.body)
            if self._held > self._most_bytes:
                self._pages.clear()
                self._held, self._followed = 0, False

    def take(self, first_offset: int) -> StoredPage | None:
        """Return the page that starts there and forget it; None for one that is not here."""
        with self._lock:
            page = self._pages.pop(first_offset, None)
            self._held -= len(page.body) if page else 0
            self._followed = self._followed or first_offset >= self._newest
            return page
