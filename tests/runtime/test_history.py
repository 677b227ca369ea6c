"""The last hour: rates out of counters, levels as they are, never more than an hour of points."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import LIVE
from forwarder.core.journal import SinkPlace
from forwarder.core.log import Progress
from forwarder.delivery.state import Phase, SinkState
from forwarder.ingest.poller import StreamStatus
from forwarder.observe.metrics import Metrics
from forwarder.runtime.history import History, Point
from forwarder.runtime.status import Snapshot, point_of

NOW = 1_800_000_000_000_000
NEW = ("streams", "access_requests", "new_per_second")
BACKLOG = ("sinks", "splunk", "backlog_events")


def point(time: float, new: float, backlog: float = 0) -> Point:
    return Point(time, {BACKLOG: backlog}, {NEW: new})


def test_a_counter_is_shown_as_its_rate_and_a_level_as_it_is() -> None:
    history = History()
    for one in (point(0, 100, 5), point(15, 130, 7), point(35, 130, 0)):
        history.add(one)

    found = history.as_json()
    assert found["times"] == [0, 15, 35]
    assert found["streams"]["access_requests"]["new_per_second"] == [None, 2.0, 0.0]
    assert found["sinks"]["splunk"]["backlog_events"] == [5, 7, 0]


def test_what_came_later_is_unknown_before_and_counts_from_zero() -> None:
    history = History()
    history.add(Point(0, {}, {}))
    history.add(point(10, 40, 3))

    found = history.as_json()
    assert found["streams"]["access_requests"]["new_per_second"] == [None, 4.0]
    assert found["sinks"]["splunk"]["backlog_events"] == [None, 3]


def test_a_counter_that_began_again_is_no_negative_rate() -> None:
    history = History()
    for one in (point(0, 100), point(10, 20)):
        history.add(one)

    assert [None, 0.0] == history.as_json()["streams"]["access_requests"]["new_per_second"]


def test_nothing_yet_is_an_empty_hour() -> None:
    expected = {"interval_seconds": 15.0, "times": [], "streams": {}, "sinks": {}}

    assert History().as_json() == expected


@given(times=st.lists(st.floats(-1e9, 1e9), max_size=600), totals=st.floats(0, 1e12))
def test_it_is_bounded_and_every_series_is_as_long_as_the_time(
    times: list[float], totals: float
) -> None:
    """The wall clock may jump as it likes."""
    history = History()
    for time in times:
        history.add(point(time, totals))

    found = history.as_json()
    series = [
        values
        for group in ("streams", "sinks")
        for measures in found[group].values()
        for values in measures.values()
    ]
    assert len(found["times"]) == min(len(times), 241)
    assert {len(values) for values in series} <= {len(found["times"])}
    assert all(value is None or value >= 0 for values in series for value in values)


def test_streams_of_one_name_are_one_series_and_the_worst_lag_counts() -> None:
    metrics = Metrics()
    for account, new in (("acme", 3), ("globex", 4)):
        metrics.rows_new.labels("access_requests", account).inc(new)
    metrics.delivered.labels("splunk", "access_requests").inc(5)
    metrics.delivered.labels("splunk", "forwarder").inc(1)
    covered = {"acme": NOW - 9_000_000, "globex": NOW - 60_000_000}
    snapshot = Snapshot(
        now_us=NOW,
        streams=[
            StreamStatus(name, "access_requests", "running", {LIVE: at}, None, None, None, None)
            for name, at in covered.items()
        ],
        sinks=[SinkState("splunk", Phase.RUNNING, NOW, "", "", 0, 0, 1, None, None, ())],
        places=[SinkPlace("splunk", LIVE, Progress(1), 8, NOW - 2_000_000, running=True)],
    )

    made = point_of(snapshot, metrics)
    assert made.totals == {NEW: 7, ("sinks", "splunk", "delivered_per_second"): 6}
    assert made.levels == {
        ("streams", "access_requests", "lag_seconds"): 60,
        BACKLOG: 8,
        ("sinks", "splunk", "oldest_seconds"): 2,
    }
