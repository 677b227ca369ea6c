"""Lines that repeat: the first is written, the others are counted until a minute is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forwarder.observe.lines import Line

_INTERVAL = 60.0
_MOST = 1000


@dataclass(slots=True)
class _Held:
    since: float
    more: int = 0
    last: Line | None = None


class Repeats:
    """Decides which lines are written. Bounded: beyond a thousand subjects the oldest is let go."""

    def __init__(self, interval: float = _INTERVAL) -> None:
        """Write a subject at most once in ``interval`` seconds."""
        self._interval = interval
        self._held: dict[tuple[object, ...], _Held] = {}

    def admit(self, line: Line, now: float) -> int | None:
        """Return how often the line was kept back before, or None to keep this one back too."""
        if not line.limited:
            return 0
        held = self._held.get(line.subject)
        if held is None or now - held.since >= self._interval:
            self._held.pop(line.subject, None)
            self._held[line.subject] = _Held(now)
            while len(self._held) > _MOST:
                del self._held[next(iter(self._held))]
            return held.more if held else 0
        held.more += 1
        held.last = line
        return None

    def due(self, now: float) -> Iterator[tuple[Line, int]]:
        """Yield lines whose minute is over with the number kept back; called now and then."""
        over = [key for key, held in self._held.items() if now - held.since >= self._interval]
        for key in over:
            held = self._held.pop(key)
            if held.last is not None:
                yield held.last, held.more
