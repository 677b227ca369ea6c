"""What a stream has shown: the truth that a client's output is compared with."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from forwarder.simulator.rows import RowStore


@dataclass(frozen=True, slots=True)
class Sighting:
    """One row instance that was put into an answer which was sent."""

    number: int
    body: bytes
    """As it was when first shown."""
    first_shown: float
    """Epoch seconds."""


class Oracle:
    """Remembers of every instance whether, when and with which keys it was first shown."""

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._generations = bytearray()  # 0: not shown; n: first shown with n - 1 keys gained
        self._first_shown = array("d")
        self._most_alike: dict[bytes, int] = {}
        self.shown = 0
        """How many instances were shown."""

    def note(self, numbers: Sequence[int], now: float) -> None:
        """Note that one answer with these instances was sent at `now` (epoch seconds)."""
        self._grow()
        mark = min(self._store.generation, 254) + 1
        for number in numbers:
            if not self._generations[number]:
                self._generations[number] = mark
                self._first_shown[number] = now
                self.shown += 1
        self._note_twins(numbers)

    def sightings(self) -> Iterator[Sighting]:
        """Yield every instance that was shown, in the order of adding."""
        for number, mark in enumerate(self._generations):
            if mark:
                body = self._store.body(number, mark - 1)
                yield Sighting(number, body, self._first_shown[number])

    def expected(self) -> Iterator[Sighting]:
        """Yield what a client must hold that tells identical rows apart only within one answer.

        Of instances that are alike as many as the fullest answer held, the earliest shown first.
        """
        left = Counter[bytes]()
        for sighting in sorted(self.sightings(), key=lambda seen: (seen.first_shown, seen.number)):
            original = self._store.bodies[sighting.number]
            if left[original] < self._most_alike.get(original, 1):
                left[original] += 1
                yield sighting

    def last_shown(self, count: int) -> list[int]:
        """Return the numbers of the `count` youngest instances that were shown and still are."""
        numbers = range(len(self._generations) - 1, -1, -1)
        shown = (n for n in numbers if self._generations[n] and not self._store.is_hidden(n))
        return list(islice(shown, count))

    def _note_twins(self, numbers: Sequence[int]) -> None:
        bodies = [self._store.bodies[number] for number in numbers]
        if len(set(bodies)) == len(bodies):
            return
        for body, count in Counter(bodies).items():
            if count > 1:
                self._most_alike[body] = max(count, self._most_alike.get(body, 1))

    def _grow(self) -> None:
        missing = len(self._store) - len(self._generations)
        self._generations.extend(bytes(missing))
        self._first_shown.extend([0.0] * missing)
