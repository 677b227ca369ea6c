"""Streams that are read part by part: which parts go together, which are still catching up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

_PREFIX = "part:"


@dataclass(frozen=True, slots=True)
class Group:
    """The parts that the live reader reads together; None for a stream without parts."""

    ids: tuple[str, ...] | None = None
    memory: Any | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the log keeps."""
        return {"ids": self.ids, "memory": self.memory}

    @classmethod
    def from_json(cls, kept: Any | None) -> Group | None:
        """Return what the log kept, None at the very first start."""
        if not isinstance(kept, dict):
            return None
        ids = kept.get("ids")
        return cls(None if ids is None else tuple(ids), kept.get("memory"))


@dataclass(frozen=True, slots=True)
class Membership:
    """Who reads what from now on."""

    group: tuple[str, ...]
    joining: tuple[str, ...]
    joined: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


def reader_of(part: str) -> str:
    """Return the name of the reader that brings a new part level."""
    return _PREFIX + part


def joining_parts(readers: Collection[str]) -> list[str]:
    """Return the parts that have a reader of their own."""
    return sorted(name.removeprefix(_PREFIX) for name in readers if name.startswith(_PREFIX))


def regroup(
    group: Sequence[str], joining: Sequence[str], level: Collection[str], now: Sequence[str]
) -> Membership:
    """Decide who belongs to the group.

    ``group`` and ``joining`` are as before, ``level`` those joining parts that have come level,
    ``now`` all parts that are to be read. A group that is empty takes new parts in by their own
    readers too: they have a past of their own.
    """
    wanted = set(now)
    joined = tuple(part for part in joining if part in level and part in wanted)
    kept = tuple(part for part in group if part in wanted and part not in joined)
    known = {*group, *joining}
    added = tuple(part for part in now if part not in known)
    still = tuple(part for part in joining if part in wanted and part not in level)
    removed = tuple(part for part in (*group, *joining) if part not in wanted)
    return Membership((*kept, *joined), (*still, *added), joined, added, removed)
