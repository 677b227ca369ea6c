"""The contract of a journal that replicas share: each of its shards has one owner at a time.

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


@dataclass(frozen=True, slots=True)
class FleetState:
    """Who owns the shards, and which replicas live, by the judgement of the database."""

    shards: Sequence[ShardOwner] = ()
    replicas: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """A shard that this process has just got; ``former`` is who had it and never gave it back."""

    shard: int
    epoch: int
    former: str


class Lease(Protocol):
    """The right to open one shard; at most one process has it at a time."""

    async def take(self) -> Taken | None:
        """Try to get it; None if another process has it. Renewed from then on.

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


class Fleet(Protocol):
    """The replicas that share a journal, as one of them sees them."""

    async def look(self) -> FleetState:
        """Say that this replica lives, and return what the others do; called every moment.

        Raises ``TransientError`` while the database is away, ``StateError`` if it has no journal.
        """
        ...

    def lease(self, shard: int) -> Lease:
        """Return the right to a shard, which nobody has taken yet."""
        ...
