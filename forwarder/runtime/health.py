"""Health as pure functions: what makes the daemon live, and what makes it ready."""

from __future__ import annotations

from collections.abc import Iterable

from forwarder.admin.server import Verdict
from forwarder.core.errors import TransientError
from forwarder.delivery.state import SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.runtime.supervisor import TaskState

_NOT_READY = frozenset({"starting", "held"})


def liveness(tasks: Iterable[TaskState]) -> Verdict:
    """Fail only when a loop is stuck: no outage and no quiet tenant may restart the process."""
    stuck = tuple(
        f"task {task.name} gave no sign of life for {task.silent:.0f} s"
        for task in tasks
        if task.stuck
    )
    return Verdict(not stuck, stuck)


def readiness(
    *,
    started: bool,
    gate_closed: bool,
    journal_trouble: TransientError | None = None,
    streams: Iterable[StreamStatus],
    sinks: Iterable[SinkState],
) -> Verdict:
    """Fail while something starts, while the journal takes nothing, while a person must act.

    A destination that is merely out does not: its events wait, and that is what they are kept for.
    """
    reasons = [] if started else ["the daemon is starting"]
    if gate_closed:
        reasons.append("the journal is full: nothing is read until a sink catches up")
    if journal_trouble is not None:
        reasons.append(f"{journal_trouble} ({journal_trouble.hint})")
    for stream in streams:
        if stream.phase in _NOT_READY:
            trouble = f": {stream.trouble.error}" if stream.trouble else ""
            hint = f" ({stream.trouble.hint})" if stream.trouble and stream.trouble.hint else ""
            about = f"stream {stream.account}/{stream.stream}"
            reasons.append(f"{about} is {stream.phase}{trouble}{hint}")
    for sink in sinks:
        if not sink.ready:
            hint = f" ({sink.hint})" if sink.hint else ""
            reasons.append(f"sink {sink.name} is held: {sink.error}{hint}")
    return Verdict(not reasons, tuple(reasons))
