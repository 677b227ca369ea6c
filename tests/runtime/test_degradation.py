"""Degraded: what lasts for minutes, and what has grown within a quarter of an hour."""

from __future__ import annotations

from forwarder.delivery.state import LaneState, Phase, SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.ingest.rounds import Failure
from forwarder.runtime.health import Degradation, state_of
from forwarder.testing.clock import FakeClock

FAILURE = Failure("HTTP 503", "look at its status page", held=False, since=0.0, attempts=3)


def stream(failure: Failure | None) -> StreamStatus:
    phase = "waiting" if failure else "running"
    return StreamStatus("acme", "access_requests", phase, {}, None, 60.0, failure, None)


def sink(phase: Phase, *lanes: LaneState) -> SinkState:
    error = "refused" if phase is Phase.WAITING else ""
    return SinkState("splunk", phase, 0, error, "", 0, 0, 1, None, None, lanes)


def lane(prefix: int, *, name: str = "live", due: bool = True) -> LaneState:
    return LaneState(name, prefix, 900, None, caught_up=True, due=due)


class Looker:
    """Looks at a daemon whose clock a test sets."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._degradation = Degradation(self.clock)

    def look(
        self,
        failure: Failure | None = None,
        phase: Phase = Phase.RUNNING,
        dead: float = 0,
        wait: float = 0,
        *lanes: LaneState,
    ) -> list[str]:
        return self._degradation.look(
            [stream(failure)], [sink(phase, *lanes)], {"splunk": dead}, {"acme": wait}
        )


def test_an_outage_degrades_only_once_it_has_lasted_for_minutes() -> None:
    looker = Looker()
    first = looker.look(FAILURE, Phase.WAITING)
    looker.clock.advance(299)
    before = looker.look(FAILURE, Phase.WAITING)
    looker.clock.advance(1)

    assert (first, before) == ([], [])
    assert looker.look(FAILURE, Phase.WAITING) == [
        (
            "stream acme/access_requests has not been read for 5 min: HTTP 503"
            " (look at its status page)"
        ),
        "sink splunk has taken nothing for 5 min: refused",
    ]


def test_an_outage_that_ended_in_between_counts_from_its_new_beginning() -> None:
    looker = Looker()
    looker.look(phase=Phase.WAITING)
    looker.clock.advance(200)
    looker.look()
    looker.look(phase=Phase.WAITING)
    looker.clock.advance(200)

    assert looker.look(phase=Phase.WAITING) == []


def test_an_event_that_is_put_off_for_minutes_degrades_while_others_pass() -> None:
    looker = Looker()
    seen = []
    for minute in range(12):
        # A write of others succeeds in between, so that the sink is never waiting for long.
        phase = Phase.WAITING if minute % 2 else Phase.RUNNING
        seen.append(looker.look(None, phase, 0, 0, lane(7 if minute < 8 else 900, due=minute < 8)))
        looker.clock.advance(60)

    reasons = [[f"sink splunk has not taken event 7 of lane live for {n} min"] for n in (5, 6, 7)]
    assert seen == [[]] * 5 + reasons + [[]] * 4


def test_events_that_wait_for_a_full_batch_or_move_on_slowly_degrade_nothing() -> None:
    looker = Looker()
    seen = []
    for minute in range(30):
        lanes = lane(minute // 4), lane(40, name="backfill:x", due=False)
        seen.append(looker.look(None, Phase.RUNNING, 0, 0, *lanes))
        looker.clock.advance(60)

    assert seen == [[]] * 30


def test_a_sink_that_takes_nothing_has_one_reason() -> None:
    looker = Looker()
    looker.look(None, Phase.WAITING, 0, 0, lane(7))
    looker.clock.advance(300)

    assert looker.look(None, Phase.WAITING, 0, 0, lane(7)) == [
        "sink splunk has taken nothing for 5 min: refused"
    ]


def test_dead_letters_degrade_for_a_quarter_of_an_hour() -> None:
    looker = Looker()
    seen = []
    for minute in range(40):
        seen.append(looker.look(dead=0 if minute < 10 else 7))
        looker.clock.advance(60)

    reason = ["sink splunk gave up 7 event(s) in the last 15 min"]
    assert seen == [[]] * 10 + [reason] * 15 + [[]] * 15


def test_dead_letters_of_a_sink_that_has_just_joined_count_from_zero() -> None:
    looker = Looker()
    looker._degradation.look([], [], {}, {})  # noqa: SLF001 - a look before the sink was there

    assert looker.look(dead=2) == ["sink splunk gave up 2 event(s) in the last 15 min"]


def test_a_request_that_waits_for_the_budget_degrades_while_it_waits() -> None:
    looker = Looker()

    assert looker.look(wait=180.0) == [
        "account acme: a request has waited 3 min for the request budget"
    ]
    assert looker.look() == []


def test_frequent_looks_keep_few_counts() -> None:
    looker = Looker()
    for _ in range(10_000):
        looker.look(dead=1)
        looker.clock.advance(0.5)

    assert len(looker._degradation._counts) <= 62  # noqa: SLF001 - memory shows nowhere else


def test_the_state_is_one_word() -> None:
    assert state_of(ready=True, degraded=()) == "ready"
    assert state_of(ready=True, degraded=("x",)) == "degraded"
    assert state_of(ready=False, degraded=("x",)) == "not_ready"
