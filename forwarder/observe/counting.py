"""What each event adds to the metrics; events without a function here are logged only."""

from __future__ import annotations

from functools import singledispatch

from forwarder.core.journal import GapOpened, JournalPruned, RowsDropped
from forwarder.core.log import JournalCommitted
from forwarder.core.telemetry import (
    CertificateSeen,
    PluginEvent,
    SentUnconfirmed,
    TelemetryEvent,
)
from forwarder.delivery.events import (
    BatchSettled,
    EventsDeadLettered,
    EventsFiltered,
    EventsRefusedAsExpected,
    OpenFailed,
    SinkThrottled,
    WriteFailed,
)
from forwarder.ingest.events import FetchFailed, PageStored, RoundEnded, RoundStarted
from forwarder.observe.events import (
    CredentialSeen,
    JournalLost,
    LibraryWarned,
    LogLinesDropped,
    SettingsRefused,
    SettingsReloaded,
    ShardGiven,
    ShardTaken,
    StandingBy,
    Started,
    TaskCrashed,
)
from forwarder.observe.metrics import EXPIRED, RELEASED, Metrics
from forwarder.sources.cloudflare_access.events import BudgetExhausted, RequestMade
from forwarder.sources.logpush.events import PushStored, RequestAnswered


@singledispatch
def count(_: TelemetryEvent, metrics: Metrics) -> None:
    """Add one event to the metrics."""


@count.register
def _started(one: Started | StandingBy, metrics: Metrics) -> None:
    metrics.build.info({"version": one.version})
    metrics.config.info({"hash": one.config_hash})


@count.register
def _taken(one: ShardTaken, metrics: Metrics) -> None:
    metrics.takeovers.labels(EXPIRED if one.former else RELEASED).inc()


@count.register
def _lost(_: JournalLost, metrics: Metrics) -> None:
    metrics.fenced.inc()
    _forget_budgets(metrics)


@count.register
def _given(_: ShardGiven, metrics: Metrics) -> None:
    _forget_budgets(metrics)


def _forget_budgets(metrics: Metrics) -> None:
    """Let the next owner say what is left; those of shards that stay return at once."""
    metrics.api_budget.clear()
    metrics.api_budget_wait.clear()


@count.register
def _committed(one: JournalCommitted, metrics: Metrics) -> None:
    metrics.commit_duration.observe(one.seconds)


@count.register
def _reloaded(one: SettingsReloaded, metrics: Metrics) -> None:
    metrics.reloads.labels("applied").inc()
    metrics.config.info({"hash": one.config_hash})


@count.register
def _refused(_: SettingsRefused, metrics: Metrics) -> None:
    metrics.reloads.labels("refused").inc()


@count.register
def _crashed(one: TaskCrashed, metrics: Metrics) -> None:
    # A task's name is KIND:WHAT; a label with the whole name would grow with the settings.
    metrics.task_crashes.labels(one.task.partition(":")[0]).inc()


@count.register
def _credential(one: CredentialSeen, metrics: Metrics) -> None:
    if one.expires_s is None:
        # Not zero, which would mean that it has ended; removing what is not there is no error.
        metrics.token_expires.labels(one.account)
        metrics.token_expires.remove(one.account)
    else:
        metrics.token_expires.labels(one.account).set(one.expires_s)


@count.register
def _certificate(one: CertificateSeen, metrics: Metrics) -> None:
    metrics.certificate_valid_from.labels(one.where, one.side).set(one.valid_from_s)
    metrics.certificate_expires.labels(one.where, one.side).set(one.expires_s)


@count.register
def _library(_: LibraryWarned, metrics: Metrics) -> None:
    metrics.library_warnings.inc()


@count.register
def _lines_dropped(one: LogLinesDropped, metrics: Metrics) -> None:
    metrics.log_lines_dropped.inc(one.lines)


@count.register
def _plugin(one: PluginEvent, metrics: Metrics) -> None:
    if one.description is not None:
        metrics.notices.labels(one.description.code).inc()


@count.register
def _unconfirmed(one: SentUnconfirmed, metrics: Metrics) -> None:
    # singledispatch runs the function of the nearest class only, not that of its bases.
    _plugin(one, metrics)
    metrics.unconfirmed.labels(one.sink).inc(one.events)


@count.register
def _gap(one: GapOpened, metrics: Metrics) -> None:
    metrics.gaps.labels(one.reason).inc()


@count.register
def _dropped(one: RowsDropped, metrics: Metrics) -> None:
    metrics.dropped.labels(one.sink, "all").inc(one.rows)


@count.register
def _pruned(one: JournalPruned, metrics: Metrics) -> None:
    metrics.journal_pruned_bytes.inc(one.bytes)


@count.register
def _request(one: RequestMade, metrics: Metrics) -> None:
    metrics.api_requests.labels(one.account, one.endpoint, one.outcome).inc()
    metrics.api_duration.labels(one.endpoint).observe(one.seconds)
    metrics.api_throttled.labels(one.account).inc(one.waited)
    metrics.api_budget_wait.labels(one.account).set(0)
    # Without a limit there is no budget, and no gauge is better than a wrong one.
    if one.budget_left is not None:
        metrics.api_budget.labels(one.account).set(one.budget_left)


@count.register
def _budget(one: BudgetExhausted, metrics: Metrics) -> None:
    metrics.api_budget_wait.labels(one.account).set(one.seconds)


@count.register
def _page(one: PageStored, metrics: Metrics) -> None:
    for counter, rows in (
        (metrics.rows_seen, one.rows),
        (metrics.rows_new, one.new),
        (metrics.rows_duplicate, one.rows - one.new),
        (metrics.rows_reshaped, one.reshaped),
        (metrics.rows_malformed, one.malformed),
        (metrics.rows_timeless, one.timeless),
        (metrics.rows_amended, one.amended),
        (metrics.rows_late, len(one.late_s)),
    ):
        counter.labels(one.stream, one.account).inc(rows)
    # Late rows are few: one call each costs less than sorting them into buckets first.
    for late in one.late_s:
        metrics.lateness.labels(one.stream).observe(late)
    metrics.store_duration.observe(one.stored_s)


@count.register
def _answered(one: RequestAnswered, metrics: Metrics) -> None:
    metrics.logpush_requests.labels(one.result).inc()


@count.register
def _pushed(one: PushStored, metrics: Metrics) -> None:
    metrics.logpush_bytes.inc(one.size)
    metrics.logpush_last_push.labels(one.account, one.dataset).set(one.at_s)
    if one.oldest_s is not None:
        metrics.logpush_oldest_row.labels(one.account, one.dataset).set(one.oldest_s)


@count.register
def _round_started(one: RoundStarted, metrics: Metrics) -> None:
    metrics.poll_delay.labels(one.stream).observe(one.late_by_s)


@count.register
def _round_ended(one: RoundEnded, metrics: Metrics) -> None:
    metrics.rounds.labels(one.stream, one.account).inc()


@count.register
def _fetch_failed(one: FetchFailed, metrics: Metrics) -> None:
    metrics.poll_failures.labels(one.stream, one.account, one.reason).inc()


@count.register
def _settled(one: BatchSettled, metrics: Metrics) -> None:
    for counter, counts in ((metrics.delivered, one.delivered), (metrics.deferred, one.deferred)):
        for stream, events in counts.items():
            counter.labels(one.sink, stream).inc(events)
    metrics.retried.labels(one.sink).inc(one.retried)
    metrics.batch_events.labels(one.sink).observe(one.events)
    metrics.sent_bytes.labels(one.sink).inc(one.bytes)
    metrics.write_duration.labels(one.sink).observe(one.seconds)
    for since, ages in (("event", one.ages), ("seen", one.seen_ages)):
        metrics.latency.observe((one.sink, since), ages.counts, ages.total)


@count.register
def _dead(one: EventsDeadLettered, metrics: Metrics) -> None:
    for (stream, _), events in one.reasons.items():
        metrics.rejected.labels(one.sink, stream).inc(events)


@count.register
def _refused_as_expected(one: EventsRefusedAsExpected, metrics: Metrics) -> None:
    for (stream, _), events in one.reasons.items():
        metrics.expected_refusals.labels(one.sink, stream).inc(events)


@count.register
def _filtered(one: EventsFiltered, metrics: Metrics) -> None:
    metrics.filtered.labels(one.sink, one.stream).inc(one.count)


@count.register
def _write_failed(one: WriteFailed, metrics: Metrics) -> None:
    metrics.failed_writes.labels(one.sink, one.kind).inc()


@count.register
def _open_failed(one: OpenFailed, metrics: Metrics) -> None:
    metrics.failed_opens.labels(one.sink, one.kind).inc()


@count.register
def _throttled(one: SinkThrottled, metrics: Metrics) -> None:
    metrics.throttled.labels(one.sink).inc()
