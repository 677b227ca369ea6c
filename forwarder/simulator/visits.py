"""Which requests came, and when: the proof that a client stayed within its quota."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from forwarder.simulator.names import ENDPOINTS

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Visit:
    """One request; `at` in epoch seconds of the simulator's clock, `status` 0 without an answer."""

    at: float
    endpoint: str
    path: str
    status: int


class VisitLog:
    """Counts requests, and keeps the times of all and the details of the last ten thousand."""

    def __init__(self) -> None:
        self.last: deque[Visit] = deque(maxlen=REMEMBERED)
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self._times: dict[str, list[float]] = {endpoint: [] for endpoint in ENDPOINTS}

    def note(self, at: float, endpoint: str, path: str, status: int) -> None:
        """Note one request that has been answered with `status`, or with nothing (0)."""
        self.last.append(Visit(at, endpoint, path, status))
        self.counts[endpoint] += 1
        self.statuses[status] += 1
        self._times.setdefault(endpoint, []).append(at)

    def busiest(self, window: float, endpoint: str | None = None) -> int:
        """Return the largest number of requests within any `window` seconds."""
        chosen = self._times.values() if endpoint is None else (self._times.get(endpoint, []),)
        return _busiest(sorted(at for times in chosen for at in times), window)


def _busiest(times: list[float], window: float) -> int:
    most = start = 0
    for end, at in enumerate(times):
        while times[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most
