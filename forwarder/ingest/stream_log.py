"""Where the poller keeps rows and positions; SQLite today, declared here without it."""

from __future__ import annotations

from typing import Any, Protocol

from forwarder.core.log import Addition, Appended, StreamMemory


class StreamLog(Protocol):
    """The log of one stream of one account. Every call is durable when it returns.

    Each raises ``TransientError`` when the disk is full or fails; nothing was stored then, and
    the poller repeats the call.
    """

    async def load(self) -> StreamMemory:
        """Return readers and key sets; called once, before the first round."""
        ...

    async def append(self, addition: Addition) -> Appended:
        """Store what is new of a page together with the reader's state."""
        ...

    async def forget(self, reader: str) -> None:
        """Remove a reader whose work is done."""
        ...

    async def recall(self, key: str) -> Any | None:
        """Return the JSON value that was kept under ``key`` (an IdP roster), or None."""
        ...

    async def keep(self, key: str, value: Any) -> None:
        """Keep a small JSON value under ``key``."""
        ...
