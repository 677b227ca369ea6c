"""Live means that no loop is stuck; ready means that nobody has to do anything."""

from __future__ import annotations

from dataclasses import replace

from forwarder.core.errors import TransientError
from forwarder.delivery.state import Phase, SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.ingest.rounds import Failure
from forwarder.runtime.health import liveness, readiness, standby_readiness
from forwarder.runtime.supervisor import TaskState


def stream(phase: str, trouble: Failure | None = None, *, answered: bool = False) -> StreamStatus:
    age = 60.0 if answered else None
    return StreamStatus("acme", "access_requests", phase, {}, None, age, trouble, None)


def sink(phase: Phase, error: str = "", hint: str = "") -> SinkState:
    return SinkState("splunk", phase, 0, error, hint, 0, 0, 1, None, None, ())


def test_tasks_that_beat_are_live_and_a_silent_one_is_named() -> None:
    fine = TaskState("upkeep", 3.0, 300.0, crashes=4)
    stuck = TaskState("stream:a/b", 901.0, 900.0, crashes=0)

    assert liveness([fine]).well
    assert liveness([fine, stuck]).reasons == ("task stream:a/b gave no sign of life for 901 s",)


def test_a_task_that_crashes_again_and_again_is_named() -> None:
    """It delivers or reads nothing although its phase may still be "running"."""
    once = TaskState("sink:hec", 3.0, 300.0, crashes=9, in_a_row=2)
    failing = TaskState("stream:a/b", 3.0, 300.0, crashes=3, in_a_row=3)
    verdict = readiness(
        started=True, gate_closed=False, streams=[], sinks=[], tasks=[once, failing]
    )

    assert verdict.reasons == ("task stream:a/b has crashed 3 times in a row; the log says why",)


def test_running_idle_waiting_and_paused_are_ready() -> None:
    """An outage of a destination or of the API is what the journal is there for."""
    verdict = readiness(
        started=True,
        gate_closed=False,
        streams=[stream("running"), stream("idle"), stream("waiting", answered=True)],
        sinks=[sink(Phase.RUNNING), sink(Phase.WAITING, "refused"), sink(Phase.PAUSED)],
    )

    assert verdict.well


def test_an_api_that_has_answered_nothing_but_failures_is_not_ready() -> None:
    """Nobody knows yet whether address, proxy and token are right."""
    trouble = Failure("HTTP 503", "", held=False, since=0.0, attempts=9)
    verdict = readiness(
        started=True, gate_closed=False, streams=[stream("waiting", trouble)], sinks=[]
    )

    assert verdict.reasons == ("stream acme/access_requests is waiting: HTTP 503",)


def test_whatever_needs_a_person_is_not_ready_and_says_what_to_do() -> None:
    trouble = Failure(
        "403: no access", "give the token Access: Audit Logs Read", held=True, since=0.0, attempts=3
    )
    verdict = readiness(
        started=True,
        gate_closed=True,
        streams=[stream("held", trouble), stream("starting")],
        sinks=[sink(Phase.HELD, "invalid token", "make a new one")],
    )

    assert verdict.reasons == (
        "the journal is full: nothing is read until a sink catches up",
        (
            "stream acme/access_requests is held: 403: no access"
            " (give the token Access: Audit Logs Read)"
        ),
        "stream acme/access_requests is starting",
        "sink splunk is held: invalid token (make a new one)",
    )


def test_a_full_journal_names_the_sink_that_it_waits_for() -> None:
    behind = replace(sink(Phase.RUNNING), name="qradar", oldest_unacknowledged_us=1_000)
    further = replace(sink(Phase.WAITING), oldest_unacknowledged_us=999)
    verdict = readiness(
        started=True,
        gate_closed=True,
        streams=[],
        sinks=[behind, further, replace(behind, name="bus", oldest_unacknowledged_us=None)],
    )

    assert verdict.reasons == ("the journal is full: nothing is read until sink splunk catches up",)


def test_a_daemon_that_starts_is_not_ready() -> None:
    verdict = readiness(started=False, gate_closed=False, streams=[], sinks=[])

    assert verdict.reasons == ("the daemon is starting",)


def test_a_hint_is_in_parentheses_and_no_hint_is_nothing() -> None:
    moved = TransientError("the journal was copied elsewhere")
    away = TransientError("the database is away", hint="start it")

    assert (str(moved),) == standby_readiness(moved, []).reasons
    assert ("the database is away (start it)",) == standby_readiness(away, []).reasons


def test_a_disk_that_cannot_be_written_needs_a_person() -> None:
    trouble = TransientError("the journal cannot be written: disk is full", hint="free disk space")
    verdict = readiness(
        started=True, gate_closed=False, journal_trouble=trouble, streams=[], sinks=[]
    )

    assert verdict.reasons == ("the journal cannot be written: disk is full (free disk space)",)
