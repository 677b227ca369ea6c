"""Which progress and dead letters are to be stored next; the consumer stores them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forwarder.core.log import DeadLetter, Progress


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One lane's progress and dead letters, to be stored in one transaction."""

    lane: str
    progress_of: Callable[[], Progress]
    progress: Progress
    dead: Sequence[DeadLetter]


class Acknowledger:
    """Groups acknowledgements: while one is being stored, the next ones become one."""

    def __init__(self) -> None:
        """Begin with nothing to store."""
        self._pending: dict[str, tuple[Callable[[], Progress], list[DeadLetter]]] = {}
        self._storing: Acknowledgement | None = None

    @property
    def idle(self) -> bool:
        """Return True if everything that was marked is stored."""
        return not self._pending and self._storing is None

    @property
    def dead_pending(self) -> int:
        """Return how many dead letters, expected refusals aside, are not stored yet."""
        letters = [letter for _, dead in self._pending.values() for letter in dead]
        if self._storing is not None:
            letters += self._storing.dead
        return sum(not letter.expected for letter in letters)

    def mark(
        self, lane: str, progress_of: Callable[[], Progress], dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Have ``lane`` stored soon.

        ``progress_of`` is called at that moment. It must already count the offsets of ``dead``, so
        that no progress passes a dead letter that is not stored with it.
        """
        _, letters = self._pending.setdefault(lane, (progress_of, []))
        letters.extend(dead)

    def forget(self, lane: str) -> bool:
        """Store nothing more for a lane; return True if only that lane had something to store."""
        return self._pending.pop(lane, None) is not None and not self._pending

    def begin(self) -> Acknowledgement | None:
        """Return what to store next, None if nothing is pending or one is under way."""
        if not self._pending or self._storing is not None:
            return None
        lane = next(iter(self._pending))
        progress_of, dead = self._pending.pop(lane)
        self._storing = Acknowledgement(lane, progress_of, progress_of(), dead)
        return self._storing

    def stored(self) -> None:
        """Record that what ``begin`` returned is stored."""
        self._storing = None

    def failed(self, tried: Acknowledgement, *, again: bool) -> None:
        """Record that storing failed; ``again``: the lane still exists, so it is tried again."""
        self._storing = None
        if again:
            _, newer = self._pending.get(tried.lane, (tried.progress_of, []))
            self._pending[tried.lane] = (tried.progress_of, [*tried.dead, *newer])
