"""Where a window of the provisioning log stands: which ids are still to be read, and how. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forwarder.core.model import Window
from forwarder.sources.cloudflare_access.steps import Step
from forwarder.sources.cloudflare_access.walk import first_step

_IDS_A_REQUEST = 20
"""A request names at most so many providers: 20 ids of 36 characters keep the URL short."""

Chunks = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window stands: chunks of ids still to be read, and the walk through the first."""

    chunks: Chunks
    step: Step

    @property
    def reached_us(self) -> int | None:
        """Return how far all ids have been read: nothing is known before the last chunk."""
        return self.step.since_us if len(self.chunks) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return what a position keeps."""
        return {"chunks": self.chunks, "step": self.step.to_json()}

    @classmethod
    def from_json(cls, kept: Any, window: Window) -> Place | None:
        """Return the place of a position; None for one that cannot be read."""
        try:
            chunks = tuple(tuple(str(id_) for id_ in chunk) for chunk in kept["chunks"])
            return cls(chunks, Step.from_json(kept["step"]) or first_step(window))
        except (TypeError, KeyError):
            return None


def chunked(ids: Sequence[str]) -> Chunks:
    """Return the ids in groups that fit into one request."""
    size = _IDS_A_REQUEST
    return tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))


def moved(place: Place, window: Window, step: Step | None) -> Place | None:
    """Return the place after an answer: on in this chunk, in the next, or None at the end."""
    if step is not None:
        return Place(place.chunks, step)
    rest = place.chunks[1:]
    return Place(rest, first_step(window)) if rest else None


def halved(place: Place, window: Window) -> tuple[Place, tuple[str, ...]]:
    """Return the place after a refusal, and the ids that are passed over (one at the most)."""
    chunk, rest = place.chunks[0], place.chunks[1:]
    if len(chunk) <= 1:
        return Place(rest, first_step(window)), chunk
    middle = len(chunk) // 2
    return Place((chunk[:middle], chunk[middle:], *rest), first_step(window)), ()
