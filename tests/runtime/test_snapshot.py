"""Status and gauges show the same snapshot."""

from __future__ import annotations

from forwarder.core.journal import SinkPlace, Usage
from forwarder.core.lease import FleetState, Member, ShardOwner
from forwarder.core.log import Progress
from forwarder.delivery.state import Phase, SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.ingest.rounds import Failure
from forwarder.observe.gauges import GAUGES, STATES
from forwarder.runtime.status import (
    Snapshot,
    gauges_of,
    journal_json,
    sinks_json,
    streams_json,
)

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
STREAM = StreamStatus(
    "acme",
    "access_requests",
    "held",
    {"live": NOW - 90 * SECOND},
    100.0,
    30.0,
    Failure("no access", "replace the token", held=True, since=0.0, attempts=1),
    None,
)
SINK = SinkState("splunk", Phase.RUNNING, NOW, "", "", 0, 2, 4, None, NOW - 5 * SECOND, ())
PLACES = [
    SinkPlace("splunk", "live", Progress(10), 7, NOW - 60 * SECOND, running=True),
    SinkPlace("splunk", "replay:1", Progress(3), 2, NOW - 3600 * SECOND, running=True),
    SinkPlace("gone", "live", Progress(1), 40, NOW - 7200 * SECOND, running=False),
]
SNAPSHOT = Snapshot(
    now_us=NOW,
    streams=[STREAM],
    sinks=[SINK],
    places=PLACES,
    dead_letters={"splunk": 5},
    usage=Usage(100, 200, 300, 11),
    limit=1000,
    gate_closed=True,
    rows={"acme/access_requests": 700.0},
    delivered={"splunk": 650.0},
    shards={1},
    fleet=FleetState(
        [ShardOwner(0, 3, "a:1"), ShardOwner(1, 1, "b:2")], [Member("a:1"), Member("b:2")]
    ),
)


def test_a_stream_is_shown_with_its_lag_and_what_to_do() -> None:
    (shown,) = streams_json(SNAPSHOT)

    assert shown["lag_seconds"] == 90
    assert shown["rows"] == 700
    assert shown["covered_until"] == "2027-01-15T07:58:30.000000Z"
    assert (shown["error"], shown["hint"]) == ("no access", "replace the token")


def test_a_sinks_backlog_is_that_of_all_its_lanes() -> None:
    (shown,) = sinks_json(SNAPSHOT, {"splunk": {"type": "splunk_hec", "format": "cim"}})

    assert (shown["type"], shown["format"], shown["phase"]) == ("splunk_hec", "cim", "running")
    assert shown["backlog_events"] == 9
    assert shown["delivered_events"] == 650
    assert shown["oldest_unacknowledged_seconds"] == 3600
    assert [lane["lane"] for lane in shown["lanes"]] == ["live", "replay:1"]


def test_a_sink_that_the_settings_no_longer_name_is_an_orphan() -> None:
    assert journal_json(SNAPSHOT)["orphans"] == [{"sink": "gone", "backlog_events": 40}]


def shown_as_gauges(snapshot: Snapshot) -> dict[tuple[str, tuple[str, ...]], float | None]:
    return {(name, labels): value for name, labels, value in gauges_of(snapshot)}


def test_the_gauges_say_the_same() -> None:
    found = shown_as_gauges(SNAPSHOT)

    stream, sink = ("access_requests", "acme"), ("splunk",)
    assert found["forwarder_covered_until_timestamp_seconds", stream] == NOW / SECOND - 90
    assert found["forwarder_retention_left_seconds", stream] == 100
    assert found["forwarder_last_poll_success_timestamp_seconds", stream] == NOW / SECOND - 30
    assert found["forwarder_stream_held", stream] == 1
    assert found["forwarder_sink_backlog_events", sink] == 9
    assert found["forwarder_sink_oldest_unacknowledged_seconds", sink] == 3600
    assert found["forwarder_sink_last_success_timestamp_seconds", sink] == NOW / SECOND - 5
    assert found["forwarder_sink_dead_letters", sink] == 5
    assert found["forwarder_sink_in_flight_batches", sink] == 2
    assert found["forwarder_journal_undelivered_bytes", ()] == 100
    assert found["forwarder_backpressure_active", ()] == 1


def test_every_gauge_has_a_sample_with_as_many_labels_as_it_declares() -> None:
    given = {name: len(labels) for name, labels, _ in gauges_of(SNAPSHOT)}

    assert given == {gauge.name: len(gauge.labels) for gauge in GAUGES}


def test_the_state_is_one_of_three() -> None:
    found = shown_as_gauges(Snapshot(now_us=NOW, ready=True, degraded=["a sink waits"]))

    states = {word: found["forwarder_state", (word,)] for word in STATES}
    assert states == {"ready": 0, "degraded": 1, "not_ready": 0}
    assert found["forwarder_ready", ()] == 1


def test_a_sink_without_a_backlog_has_no_oldest_event() -> None:
    places = [SinkPlace("splunk", "live", Progress(10), 0, NOW - 60 * SECOND, running=True)]
    found = shown_as_gauges(Snapshot(now_us=NOW, sinks=[SINK], places=places))

    assert found["forwarder_sink_oldest_unacknowledged_seconds", ("splunk",)] == 0
