"""What does not stop the daemon and still needs a look: what lasts too long, and what has grown.

Three states: ``not_ready`` while a person must act, ``degraded`` while events flow but something
here is wrong, ``ready`` otherwise. An outage of a minute is none of them: that is what the journal
is there for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from forwarder.core.timing import Clock
from forwarder.delivery.state import Phase, SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.observe.levels import STATES

READY, DEGRADED, NOT_READY = STATES

_LASTS = 300.0
"""Seconds after which an outage is worth a look."""
_RECENT = 900.0
"""Seconds in which dead letters must not have grown."""
_STEP = 15.0
"""Seconds between two counts that are kept."""


def state_of(*, ready: bool, degraded: Sequence[str]) -> str:
    """Return the one word for the daemon's state."""
    if not ready:
        return NOT_READY
    return DEGRADED if degraded else READY


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Something that degrades the daemon once it has lasted; ``name`` is the same at each look."""

    name: str
    detail: str


class Degradation:
    """Remembers what it saw, so that it knows how long each trouble has lasted."""

    def __init__(self, clock: Clock) -> None:
        """Begin without a memory: what went before a restart is not known."""
        self._clock = clock
        self._since: dict[str, float] = {}
        self._counts = deque[tuple[float, Mapping[str, float]]]()

    def look(
        self,
        streams: Iterable[StreamStatus],
        sinks: Iterable[SinkState],
        dead_letters: Mapping[str, float],
    ) -> list[str]:
        """Return a sentence for each reason why the daemon is degraded.

        ``dead_letters`` counts, by sink, the events ever given up in this process. Called every
        15 seconds by the daemon, and whenever somebody wants to know.
        """
        now = self._clock.monotonic()
        troubles = [*_stream_troubles(streams), *_sink_troubles(sinks)]
        self._since = {one.name: self._since.get(one.name, now) for one in troubles}
        lasting = [
            f"{one.name} for {(now - self._since[one.name]) / 60:.0f} min{one.detail}"
            for one in troubles
            if now - self._since[one.name] >= _LASTS
        ]
        return [*lasting, *self._grown(now, dead_letters)]

    def _grown(self, now: float, counts: Mapping[str, float]) -> Iterator[str]:
        if not self._counts or now - self._counts[-1][0] >= _STEP:
            self._counts.append((now, dict(counts)))
        while now - self._counts[0][0] > _RECENT:
            self._counts.popleft()
        _, before = self._counts[0]
        for sink, total in counts.items():
            grown = round(total - before.get(sink, 0.0))
            if grown:
                yield f"sink {sink} gave up {grown} event(s) in the last 15 min"


def _stream_troubles(streams: Iterable[StreamStatus]) -> Iterator[_Trouble]:
    for one in streams:
        about = f"stream {one.account}/{one.stream}"
        if one.failure is not None:
            detail = _detail(one.failure.error, one.failure.hint)
            yield _Trouble(f"{about} has not been read", detail)


def _sink_troubles(sinks: Iterable[SinkState]) -> Iterator[_Trouble]:
    for one in sinks:
        if one.phase in {Phase.WAITING, Phase.HELD}:
            detail = _detail(one.error, one.hint)
            yield _Trouble(f"sink {one.name} has taken nothing", detail)


def _detail(error: str, hint: str) -> str:
    return f": {error} ({hint})" if hint else f": {error}"
