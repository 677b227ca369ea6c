"""The position of the SCIM log: providers, and refused ids.

Where a window of the provisioning log stands: which ids are still to be read, and how. Pure.

Which identity providers Cloudflare refuses, so that not every poll finds out anew. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from forwarder.core.contracts import Window
from forwarder.sources.cloudflare_access.walk import Step, first_step

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


_BELIEVED = 2
"""One refusal may be a slip; what it hid lies in the overlap of the next poll."""


class Refusal(NamedTuple):
    """How often in a row an id was refused, and when last (microseconds since 1970)."""

    times: int
    at_us: int


@dataclass(frozen=True, slots=True)
class Refusals:
    """The ids that were refused and have not been accepted since; part of the stream's memory."""

    of: Mapping[str, Refusal] = field(default_factory=dict)

    def refused(self, ids: Iterable[str], now_us: int) -> Refusals:
        """Return the refusals after these, too."""
        times = {id_: self.of[id_].times if id_ in self.of else 0 for id_ in ids}
        return Refusals({**self.of, **{id_: Refusal(n + 1, now_us) for id_, n in times.items()}})

    def accepted(self, ids: Iterable[str]) -> Refusals:
        """Return the refusals without these ids; the same when none of them was refused."""
        if self.of.keys().isdisjoint(ids):
            return self
        accepted = frozenset(ids)
        return Refusals({id_: one for id_, one in self.of.items() if id_ not in accepted})

    def among(self, ids: Iterable[str]) -> Refusals:
        """Return the refusals of these ids alone."""
        wanted = frozenset(ids)
        return Refusals({id_: one for id_, one in self.of.items() if id_ in wanted})

    def cover(self, ids: Iterable[str]) -> bool:
        """Say whether each of these ids is refused."""
        return self.of.keys() >= frozenset(ids)

    def plan(self, ids: Sequence[str], now_us: int, refresh: float) -> tuple[Chunks, list[str]]:
        """Return how to ask for ``ids``, and which of them are passed over.

        An id that was refused is asked for alone, the one first that was refused longest ago.
        After a second refusal it is not asked for until ``refresh`` seconds have gone, nor after
        the clock was set back.
        """
        passed_over = [id_ for id_ in ids if self._is_believed(id_, now_us, refresh)]
        alone = sorted(
            (id_ for id_ in ids if id_ in self.of and id_ not in passed_over),
            key=lambda id_: self.of[id_].at_us,
        )
        others = chunked([id_ for id_ in ids if id_ not in self.of])
        return (*others, *((id_,) for id_ in alone)), passed_over

    def _is_believed(self, id_: str, now_us: int, refresh: float) -> bool:
        one = self.of.get(id_)
        return (
            one is not None and one.times >= _BELIEVED and 0 <= now_us - one.at_us < refresh * 1e6
        )

    def to_json(self) -> dict[str, Any]:
        """Return what the memory keeps."""
        return {id_: list(one) for id_, one in self.of.items()}

    @classmethod
    def from_json(cls, kept: Any) -> Refusals:
        """Return what was kept; none for what cannot be read."""
        try:
            return cls({str(id_): Refusal(*map(int, one)) for id_, one in kept.items()})
        except (AttributeError, TypeError, ValueError):
            return cls()
