"""The contract of a journal that several replicas share: one of them has it, the others stand by.

A lease only says when another replica may take over. What keeps a former owner from writing is the
journal's own fence: its writes fail, and ``Journal.ended`` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forwarder.core.journal import Journal, Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock


@dataclass(frozen=True, slots=True)
class ShardOwner:
    """Which process owns a shard of a shared journal; ``owner`` is empty if none does.

    ``epoch`` grows with each owner.
    """

    shard: int
    epoch: int
    owner: str


class Lease(Protocol):
    """The right to open a journal that several processes share; at most one has it at a time."""

    async def take(self) -> bool:
        """Try to get it; return False if another process has it. Renewed from then on.

        Raises ``TransientError`` while nobody can say who has it.
        """
        ...

    async def open(self, keeping: Keeping, *, clock: Clock, emit: Emit) -> Journal:
        """Open the journal after ``take``; raises as ``take``, ``StateError``, ``DamagedError``."""
        ...

    async def lost(self) -> str:
        """Wait until the right is gone, and return why; then nothing may be read or delivered."""
        ...

    async def release(self) -> None:
        """Let another process take it at once; idempotent."""
        ...

    async def owners(self) -> Sequence[ShardOwner]:
        """Return who has the journal's shards."""
        ...
