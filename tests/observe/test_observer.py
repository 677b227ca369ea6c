"""One report gives one metric and one line, and repeats do not flood the log."""

from __future__ import annotations

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from prometheus_client import generate_latest

from forwarder.core.journal import GapOpened, RowsDropped
from forwarder.core.telemetry import INFO, WARNING, PluginEvent, TelemetryEvent, event
from forwarder.observe.events import SettingsRefused, SettingsWarning, Started, TaskCrashed
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import LibraryHandler, Observer
from forwarder.observe.output import LogOutput, Redactor
from forwarder.transport.settings import REDACTED


class Desk:
    """An observer whose clock is set by hand and whose lines can be read."""

    def __init__(self, level: str = "info") -> None:
        self.now = 1000.0
        self.stream = io.StringIO()
        self.metrics = Metrics()
        output = LogOutput(self.stream, Redactor(), level=level, style="json")
        self.observer = Observer(self.metrics, output, self)

    def now_us(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.stream.getvalue().splitlines()]

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_event_is_counted_and_logged(desk: Desk) -> None:
    desk.observer.emit(GapOpened("a1/access_requests", "expired", 0, 60_000_000, 7, "down"))

    assert desk.value("forwarder_gaps_total", reason="expired") == 1
    (line,) = desk.lines
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "error",
        "event": "gap_opened",
        "account": "a1",
        "stream": "access_requests",
        "reason": "expired",
        "from": "1970-01-01T00:00:00.000000Z",
        "to": "1970-01-01T00:01:00.000000Z",
        "rows": 7,
        "detail": "down",
        "hint": "forwarder gaps list",
    }


def test_the_build_and_the_settings_in_force_are_metrics(desk: Desk) -> None:
    desk.observer.emit(Started("1.2.3", "abc", 2, 1))

    assert desk.value("forwarder_build_info", version="1.2.3") == 1
    assert desk.value("forwarder_config_info", hash="abc") == 1


def test_a_repeated_line_is_written_once_a_minute_with_its_number(desk: Desk) -> None:
    for _ in range(50):
        desk.observer.emit(RowsDropped("s", 10))
        desk.now += 1
    desk.now += 11
    desk.observer.emit(RowsDropped("s", 10))

    assert desk.value("forwarder_sink_dropped_events_total", sink="s", stream="all") == 510
    assert [line.get("repeated") for line in desk.lines] == [None, 49]


def test_what_was_kept_back_is_written_when_it_stops(desk: Desk) -> None:
    desk.observer.emit(RowsDropped("s", 10))
    desk.observer.emit(RowsDropped("s", 20))
    desk.observer.flush()
    assert len(desk.lines) == 1
    desk.now += 60
    desk.observer.flush()
    desk.observer.flush()

    assert [line["rows"] for line in desk.lines] == [10, 20]


def test_another_sink_is_another_subject(desk: Desk) -> None:
    desk.observer.emit(RowsDropped("s", 10))
    desk.observer.emit(RowsDropped("t", 10))

    assert [line["sink"] for line in desk.lines] == ["s", "t"]


def test_kept_back_subjects_are_bounded(desk: Desk) -> None:
    for number in range(3000):
        desk.observer.emit(RowsDropped(f"s{number}", 1))
        desk.observer.emit(RowsDropped(f"s{number}", 1))
    desk.now += 60
    written = len(desk.lines)
    desk.observer.flush()

    assert len(desk.lines) - written == 1000


def test_a_crash_is_logged_with_its_traceback_and_counted_by_kind(desk: Desk) -> None:
    try:
        raise RuntimeError("boom")  # noqa: TRY301 - the traceback is what is looked at
    except RuntimeError as error:
        desk.observer.emit(TaskCrashed("sink:console", error, 1.0))

    assert desk.value("forwarder_task_crashes_total", kind="sink") == 1
    assert "RuntimeError: boom" in desk.lines[0]["exception"]


@event("token_almost_over", INFO, WARNING, limited=True, hint="renew it within {days} days")
class TokenAlmostOver(PluginEvent):
    """A token of a plugin that somebody else wrote is about to expire."""

    sink: str
    days: int

    def is_worse(self) -> bool:
        return self.days < 3


def test_an_event_of_a_plugin_is_counted_and_logged_as_it_describes_itself(desk: Desk) -> None:
    desk.observer.emit(TokenAlmostOver("s", 30))
    desk.observer.emit(TokenAlmostOver("t", 1))

    assert desk.value("forwarder_plugin_notices_total", notice="token_almost_over") == 2
    plenty, few = desk.lines
    assert (plenty["event"], plenty["code"], plenty["days"]) == ("plugin", "token_almost_over", 30)
    assert (plenty["level"], few["level"]) == ("info", "warning")
    assert few["hint"] == "renew it within 1 days"


def test_a_fault_in_telemetry_is_logged_and_not_raised(desk: Desk) -> None:
    desk.observer.emit(RowsDropped("s", -1))

    assert desk.lines[0]["code"] == "telemetry_fault"


def test_an_event_that_does_not_describe_itself_is_a_fault_with_its_name(desk: Desk) -> None:
    class Undescribed(TelemetryEvent):
        pass

    desk.observer.emit(Undescribed())

    assert desk.lines[0]["code"] == "telemetry_fault"
    assert desk.lines[0]["happening"] == "Undescribed"


def test_lines_below_the_level_are_not_written_but_counted() -> None:
    desk = Desk("error")
    desk.observer.emit(RowsDropped("s", 1))
    desk.observer.emit(SettingsRefused(("x: wrong",)))

    assert [line["event"] for line in desk.lines] == ["settings_refused"]
    assert desk.value("forwarder_sink_dropped_events_total", sink="s", stream="all") == 1


def test_a_closed_stderr_stops_nothing() -> None:
    desk = Desk()
    desk.stream.close()

    desk.observer.emit(RowsDropped("s", 1))


@pytest.mark.parametrize(
    "name",
    [
        "forwarder_rows_seen_total",
        "forwarder_rows_new_total",
        "forwarder_rows_duplicate_total",
        "forwarder_rows_late_total",
        "forwarder_rows_reshaped_total",
        "forwarder_sink_delivered_events_total",
        "forwarder_sink_rejected_events_total",
        "forwarder_sink_deferred_events_total",
        "forwarder_sink_dropped_events_total",
        "forwarder_gaps_total",
    ],
)
def test_the_promised_counters_exist(desk: Desk, name: str) -> None:
    assert f"# TYPE {name} counter" in generate_latest(desk.metrics.registry).decode()


def test_account_and_sink_never_meet_on_one_metric(desk: Desk) -> None:
    for family in desk.metrics.registry._collector_to_names:  # noqa: SLF001 - there is no other way
        labels = set(getattr(family, "_labelnames", ()))
        assert not {"account", "sink"} <= labels


def test_what_libraries_warn_of_is_counted_and_does_not_flood_the_log(desk: Desk) -> None:
    logger = logging.getLogger("aiolib")
    logger.addHandler(LibraryHandler(desk.observer.emit))
    logger.info("chatter")
    for attempt in range(50):
        logger.warning("odd: %s", attempt)
    logger.error("worse, with token=abcdef123456")

    odd, worse = desk.lines
    assert (odd["event"], odd["library"], odd["message"]) == ("library", "aiolib", "odd: 0")
    assert (worse["level"], worse["message"]) == ("error", f"worse, with token={REDACTED}")
    assert desk.value("forwarder_library_warnings_total") == 51
    desk.now += 61
    desk.observer.flush()
    assert desk.lines[-1]["repeated"] == 49


def test_libraries_may_log_from_threads_of_their_own(desk: Desk) -> None:
    """More subjects than are kept, from four threads at once: nothing raises, nothing is lost."""

    def work(thread: int) -> None:
        for number in range(2000):
            desk.observer.emit(RowsDropped(f"{thread}-{number}", 1))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))

    assert len(desk.lines) == 8000


class BrokenSpans:
    """Code of others, such as an exporter's."""

    def emit(self, one: TelemetryEvent) -> None:
        raise RuntimeError(type(one).__name__)

    def close(self) -> None:
        """Do nothing."""


def test_spans_that_fail_cost_no_line_and_are_reported(desk: Desk) -> None:
    output = LogOutput(desk.stream, Redactor(), style="json")
    observer = Observer(desk.metrics, output, desk, BrokenSpans())

    observer.emit(SettingsWarning("careful"))

    warned, failed = desk.lines
    assert warned["event"] == "settings_warning"
    assert "RuntimeError" in str(failed)
