"""Which identity providers Cloudflare refuses, so that not every poll finds out anew. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from forwarder.sources.cloudflare_access.scim_updates_place import Chunks, chunked

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
