"""What a sink's test brings for the contract: the other side, and the ways it can fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from forwarder.core.contracts import Sink


class Destination(Protocol):
    """The other side as a sink's test brings it, healthy and empty."""

    def sink(self) -> Sink:
        """Make a new sink for this destination."""
        ...

    def arrived(self) -> Mapping[str, int]:
        """Return how often each event id is there; built by ``make_batch``, so in every body."""
        ...


class FaultyDestination(Destination, Protocol):
    """A destination that can fail in the ways real ones do."""

    secrets: Sequence[str]

    def requests(self) -> int:
        """Return how many times something tried to deliver events."""
        ...

    async def go_down(self) -> None:
        """Refuse or break every attempt until ``come_back``."""
        ...

    async def hang(self) -> None:
        """Take what comes and answer nothing until ``come_back``."""
        ...

    async def come_back(self) -> None:
        """Be healthy again at the same address."""
        ...


class LockingDestination(FaultyDestination, Protocol):
    """A destination that can turn us away for good: wrong token, missing permission."""

    async def lock_out(self) -> None:
        """Refuse us as somebody without permission."""
        ...
