"""Every event that ships makes exactly the line that people search for and alert on."""

from __future__ import annotations

import io
from pathlib import Path

from deploy.generate.log_lines import described_events, log_lines
from forwarder.core import journal
from forwarder.core.log import JournalCommitted
from forwarder.core.telemetry import CertificateSeen, Level, SentUnconfirmed, TelemetryEvent
from forwarder.core.timing import SystemClock
from forwarder.delivery import events as delivery
from forwarder.delivery.outgoing import AGE_BOUNDS, Ages
from forwarder.ingest import events as ingest
from forwarder.observe import events as daemon
from forwarder.observe.metrics import Metrics
from forwarder.observe.observer import Observer, line_of
from forwarder.observe.output import LogOutput, Redactor
from forwarder.sinks.syslog import WindowResent
from forwarder.sources.cloudflare_access import events as cloudflare
from forwarder.sources.logpush import events as logpush

GOLDEN = Path(__file__).with_name("lines.ndjson")
BOOM = RuntimeError("boom")
AGES = Ages((1,) * (len(AGE_BOUNDS) + 1), 1.0, 1.0)
STREAM = ("acme", "access_requests")
FAILURE = (*STREAM, "live", "no answer", "look", 3, 12.3456)
BACKFILL = (*STREAM, "b1", 1_700_000_000_000_000, 1_700_000_001_000_000, 7)
EXAMPLES: tuple[TelemetryEvent, ...] = (
    daemon.Started("1.2", "abc", 2, 1),
    daemon.AdminListening("http://127.0.0.1:1"),
    daemon.AdminTlsUnusable("expired", ""),
    daemon.Stopping("SIGTERM", 25.0),
    daemon.StandingBy("1.0", "abc"),
    daemon.ShardTaken(0, 3, "host-1:17"),
    daemon.SettingsOlder(("host-2:9",)),
    daemon.UpgradeWaits(("host-2:9",)),
    daemon.ShardGiven(2),
    daemon.JournalLost(0, "another replica has taken over"),
    daemon.Stopped(settled=True, backlog=3),
    daemon.Stopped(settled=False, backlog=0),
    daemon.TaskCrashed("sink:a", BOOM, 1.26),
    daemon.TaskStuck("sink:a", 12.6),
    daemon.SettingsWarning("unwise"),
    daemon.SettingsReloaded("abc", ("a",), (), ()),
    daemon.SettingsReloaded("abc", ("a",), (), ("state_dir",)),
    daemon.SettingsRefused(("a: wrong",)),
    daemon.SecretChanged("/token"),
    daemon.JournalTroubled("disk full"),
    daemon.LibraryWarned("lib", "odd", "module:1", severe=False, error=None),
    daemon.LibraryWarned("lib", "odd", "module:1", severe=True, error=BOOM),
    daemon.LogLinesDropped(7),
    daemon.TelemetryFailed("RowsDropped", "ValueError", "inc:1"),
    journal.GapOpened("acme/access_requests", "expired", 0, 60_000_000, None, ""),
    journal.GapOpened("sink:splunk", "expired", 0, 60_000_000, 7, "down"),
    journal.GapClosed("acme/access_requests", "expired", 3),
    journal.GapClosed("sink:splunk", "expired", None),
    journal.RowsDropped("splunk", 4),
    journal.JournalPruned(1, 2, 3),
    JournalCommitted(0.01),
    delivery.BatchSettled(
        "splunk", "live", 5, 100, 1.23456, {"x": 4}, {"x": 1}, {}, 3, AGES, AGES, held_back=False
    ),
    delivery.BatchNoted(
        *("splunk", "live", 5, 100, 1.23456, {"x": 5}, {}, {}, 0, AGES, AGES),
        held_back=False,
        notes=("code: text",),
    ),
    delivery.EventsDeadLettered("splunk", "live", {("x", "too old"): 2, ("y", "bad"): 5}),
    delivery.EventsRefusedAsExpected("loki", "live", {("x", "expected refusal: too old"): 3}),
    delivery.BatchSplit("splunk", "live", "refused", 1, 2, "no"),
    delivery.WriteFailed("splunk", "live", "outage", 3, "no answer", "", 4, 1.0),
    delivery.SinkOpened("splunk", 1.23456),
    delivery.OpenFailed("splunk", "timeout", "no answer", "look", 3, 1.26),
    delivery.SinkHeld("splunk", "refused", "look"),
    delivery.SinkWaiting("splunk", "no answer", ""),
    delivery.SinkRecovered("splunk", 61.26),
    delivery.SinkThrottled("splunk", 4, None),
    delivery.SinkThrottled("splunk", 4, 2.345),
    delivery.PhaseChanged("splunk", "waiting", "running"),
    delivery.QueueFailed("splunk", "disk full", "look", "read", 1.0),
    delivery.EventsFiltered("splunk", "live", "access_requests", 3),
    delivery.LaneFinished("splunk", "b1"),
    delivery.SinkDrained("splunk", 0, 1.26),
    delivery.SinkDrained("splunk", 2, 1.26),
    ingest.PageStored(*STREAM, "live", 10, 7, 1, 2, 3, (1.5,), 0.004, 0),
    ingest.RoundEnded(*STREAM, "live", 1_700_000_000_000_000, 7, 1.23456),
    ingest.RoundStarted(*STREAM, 0.1),
    ingest.FetchFailed(*FAILURE),
    ingest.StreamHeld(*FAILURE),
    ingest.FetchRecovered(*STREAM, "live", 3, 61.26),
    ingest.RetentionNear(*STREAM, 3600.6),
    ingest.PartJoined(*STREAM, "idp-1"),
    ingest.PartsChanged(*STREAM, ("idp-1",), ()),
    ingest.GateClosed(9, 10),
    ingest.GateOpened(9, 10),
    ingest.BackfillMoved(*BACKFILL),
    ingest.BackfillEnded(*BACKFILL),
    cloudflare.RequestMade("acme", "access_requests", "2xx", 0.1, 0.2, 5),
    cloudflare.TokenBlocked("acme", "access_requests", 300.4),
    cloudflare.BudgetExhausted("acme", 180.4),
    cloudflare.BodyRepaired("acme", "access_requests", 3, 1, "8a1c5e2f00000003-AMS"),
    cloudflare.ProvidersChanged("acme", ("idp-1",), ()),
    cloudflare.ProvidersNotListed("acme", 3, "denied", "look"),
    logpush.RequestAnswered("accepted"),
    logpush.LogpushListening("https://0.0.0.0:9465"),
    logpush.LogpushTlsUnusable("expired", ""),
    logpush.PushStored("acme", "http_requests", 1000, 90_000, 1_700_000_000.0, 12.5),
    logpush.PushRefused("refused_size", "192.0.2.1", "/acme/x", 413, "the body is too large"),
    logpush.PushDelayed("gate_closed", "192.0.2.1", "/acme/x", 503, "the journal is full"),
    logpush.SecretRefused("192.0.2.1"),
    logpush.PushGivenUp("acme", "http_requests", "it is cut short", 5),
    SentUnconfirmed("siem", 5),
    daemon.CredentialSeen("acme", 5.0),
    CertificateSeen("sink siem", "theirs", 1.0, 2.0),
    WindowResent("siem", "127.0.0.1:514", 7),
)


def written(one: TelemetryEvent) -> str:
    stream = io.StringIO()
    output = LogOutput(stream, Redactor(), level="debug", style="json", now_us=lambda: 0)
    Observer(Metrics(), output, SystemClock()).emit(one)
    return stream.getvalue()


def test_every_event_makes_the_line_it_always_made() -> None:
    """A change here breaks somebody's search or alert: say so in the changelog."""
    assert "".join(map(written, EXAMPLES)) == GOLDEN.read_text()


def test_every_event_that_ships_is_described_and_has_an_example() -> None:
    assert set(described_events()) == {type(one) for one in EXAMPLES}


def test_the_generated_page_lists_every_key_and_level_that_a_line_has() -> None:
    listed = log_lines()
    for line in filter(None, map(line_of, EXAMPLES)):
        assert line.fields.keys() <= listed[line.event].keys.keys()
        assert line.level in listed[line.event].levels


def test_the_worse_level_is_declared_exactly_where_an_event_can_be_worse() -> None:
    for kind in described_events():
        levels: tuple[Level, ...] = kind.description.levels if kind.description else ()
        assert (len(levels) == 2) == ("is_worse" in vars(kind)), kind
