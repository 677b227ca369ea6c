"""The health of the daemon: whether it lives, whether events flow, and what needs a look.

Three states: ``not_ready`` while a person must act, ``degraded`` while events flow but something
has been wrong for minutes, ``ready`` otherwise. A shorter outage changes nothing: that is what the
journal is there for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from forwarder.admin.server import Verdict
from forwarder.core.errors import TransientError
from forwarder.core.timing import Clock
from forwarder.delivery.state import Phase, SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.observe.gauges import STATES
from forwarder.runtime.supervisor import TaskState

READY, DEGRADED, NOT_READY = STATES

_NOT_READY = frozenset({"starting", "held"})
_DELIVERING = frozenset({Phase.OPENING, Phase.RUNNING, Phase.WAITING})
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


def liveness(tasks: Iterable[TaskState]) -> Verdict:
    """Return the verdict for /livez, which restarts the process.

    It fails only if a task is stuck: a restart heals neither an outage nor a quiet tenant.
    """
    stuck = tuple(
        f"task {task.name} gave no sign of life for {task.silent:.0f} s"
        for task in tasks
        if task.stuck
    )
    return Verdict(not stuck, stuck)


def standby_readiness(trouble: TransientError | None, tasks: Iterable[TaskState]) -> Verdict:
    """Return the verdict for /readyz of a standby: it is ready if it could take over."""
    reasons = [] if trouble is None else [_with_hint(trouble)]
    reasons += [f"task {task.name} has crashed often" for task in tasks if task.failing]
    return Verdict(not reasons, tuple(reasons))


def readiness(
    *,
    started: bool,
    gate_closed: bool,
    journal_trouble: TransientError | None = None,
    tasks: Iterable[TaskState] = (),
    streams: Iterable[StreamStatus],
    sinks: Sequence[SinkState],
) -> Verdict:
    """Return the verdict for /readyz, with one reason for each thing that a person must know.

    It fails while something starts, while the journal stores nothing, and while something is held
    until a person acts. A destination that is out does not make it fail: its events wait.
    """
    reasons = [] if started else ["the daemon is starting"]
    if gate_closed:
        reasons.append(f"the journal is full: nothing is read until {_slowest(sinks)} catches up")
    if journal_trouble is not None:
        reasons.append(_with_hint(journal_trouble))
    reasons += [
        f"task {task.name} has crashed {task.in_a_row} times in a row; the log says why"
        for task in tasks
        if task.failing
    ]
    for stream in streams:
        # "waiting" is an outage of the API, which nobody here can end; but before the first answer
        # nobody knows whether address, proxy and token are right either.
        unproven = stream.phase == "waiting" and stream.success_age_s is None
        if stream.phase in _NOT_READY or unproven:
            failure = stream.failure
            detail = _detail(failure.error, failure.hint) if failure else ""
            reasons.append(f"stream {stream.account}/{stream.stream} is {stream.phase}{detail}")
    reasons += [
        f"sink {sink.name} is held{_detail(sink.error, sink.hint)}"
        for sink in sinks
        if not sink.ready
    ]
    return Verdict(not reasons, tuple(reasons))


def _slowest(sinks: Iterable[SinkState]) -> str:
    """Return the sink whose oldest event has waited longest: rows are kept for it."""
    waits = [(s.oldest_unacknowledged_us, s.name) for s in sinks if s.oldest_unacknowledged_us]
    return f"sink {min(waits)[1]}" if waits else "a sink"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Something that degrades the daemon once it has lasted.

    ``subject`` and ``what`` are the same at each look, ``detail`` may change.
    """

    subject: str
    what: str
    detail: str = ""

    @property
    def name(self) -> str:
        return f"{self.subject} {self.what}"


class Degradation:
    """Remembers what it saw, so that it knows how long each trouble has lasted."""

    def __init__(self, clock: Clock) -> None:
        """Begin without a memory: what went before a restart is not known."""
        self._clock = clock
        self._since: dict[str, float] = {}
        # Counters begin at zero with the process.
        self._counts = deque[tuple[float, Mapping[str, float]]]([(clock.monotonic(), {})])

    def look(
        self,
        streams: Iterable[StreamStatus],
        sinks: Iterable[SinkState],
        dead_letters: Mapping[str, float],
        budget_waits: Mapping[str, float],
    ) -> list[str]:
        """Return a sentence for each reason why the daemon is degraded.

        ``dead_letters`` counts, by sink, the events ever given up in this process;
        ``budget_waits`` are seconds that a request has waited, by account, 0 if not for long.
        Called every 15 seconds by the daemon, and whenever somebody wants to know.
        """
        now = self._clock.monotonic()
        troubles = [*_stream_troubles(streams), *_sink_troubles(sinks)]
        self._since = {one.name: self._since.get(one.name, now) for one in troubles}
        lasting = [one for one in troubles if now - self._since[one.name] >= _LASTS]
        # One reason for each subject, the first: a sink that takes nothing puts events off, too.
        first = {one.subject: one for one in reversed(lasting)}
        sentences = [
            f"{one.name} for {(now - self._since[one.name]) / 60:.0f} min{one.detail}"
            for one in reversed(first.values())
        ]
        short = [
            f"account {account}: a request has waited {seconds / 60:.0f} min for the request budget"
            for account, seconds in budget_waits.items()
            if seconds
        ]
        return [*sentences, *self._grown(now, dead_letters), *short]

    def _grown(self, now: float, counts: Mapping[str, float]) -> Iterator[str]:
        if now - self._counts[-1][0] >= _STEP:
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
        # What is held makes the daemon not ready at once; its reason is given there.
        if one.failure is not None and not one.failure.held:
            detail = _detail(one.failure.error, one.failure.hint)
            yield _Trouble(about, "has not been read", detail)


def _sink_troubles(sinks: Iterable[SinkState]) -> Iterator[_Trouble]:
    for one in sinks:
        about = f"sink {one.name}"
        if one.phase is Phase.WAITING:
            detail = _detail(one.error, one.hint)
            yield _Trouble(about, "has taken nothing", detail)
        if one.phase in _DELIVERING:
            # A destination may put one event off while it takes others, or ask for a long pause.
            for lane in one.lanes:
                if lane.due:
                    where = f"event {lane.prefix} of lane {lane.name}"
                    yield _Trouble(about, f"has not taken {where}")


def _with_hint(trouble: TransientError) -> str:
    return _detail(str(trouble), trouble.hint).removeprefix(": ")


def _detail(error: str, hint: str) -> str:
    return f": {error} ({hint})" if hint else f": {error}"
