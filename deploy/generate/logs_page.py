"""docs/logs.md, out of the one list of names and the code that makes the lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.generate.log_lines import Described
from forwarder.observe.lines import LogEvent

_HEAD = """\
<!-- Generated from the code: make generate -->
# Log lines

Logs go to standard error: JSON, one object a line, or coloured columns on a terminal
(`log.format`). Every line has `time`, `level` and `event`; `event` is one of the names below and
nothing else, so that it can be searched for and alerted on. Keys without a value are left out.

A line that repeats with the same name, account, stream, sink and reason is written at most once a
minute; the next one says how many were kept back (`repeated`). Lines never hold the content of an
event, and secrets are replaced by asterisks.

| event | level | means | keys |
|---|---|---|---|
"""
_MEANINGS: Mapping[str, str] = {
    "admin_listening": "Status and metrics can be asked for at this address.",
    "admin_tls_unusable": "Certificate or key of the admin server cannot be used; the last "
    "good ones stay in use.",
    "backfill_ended": "A backfill has read its window to the end.",
    "backfill_moved": "A backfill has read another part of its window.",
    "batch_settled": "A destination answered for a batch.",
    "batch_split": "A batch was refused whole or too large, and is tried in halves.",
    "body_repaired": "An answer of Cloudflare was no valid JSON; its rows were saved one by "
    "one, those that could not be read as text.",
    "events_dead_lettered": "A destination refused events for good; they are kept.",
    "gap_closed": "Nothing more is being lost for this reason.",
    "gap_opened": "Rows were, or may have been, lost.",
    "gate_closed": "The journal is full; nothing is read until a sink catches up.",
    "gate_opened": "The journal has room again.",
    "journal_pruned": "Delivered rows were removed from the journal.",
    "journal_troubled": "The journal could not be read or written; it is tried again.",
    "lane_finished": "A sink has everything of a backfill or replay.",
    "library": "A library warned.",
    "page_stored": "Rows of one answer were stored.",
    "parts_changed": "The identity providers that are read changed.",
    "part_joined": "A new identity provider's history has been read.",
    "plugin": "A plugin reported something of its own; `code` says what.",
    "poll_failed": "Cloudflare could not be read; it is tried again.",
    "poll_recovered": "Cloudflare can be read again.",
    "providers_changed": "Identity providers appeared or vanished at Cloudflare.",
    "providers_not_listed": "The identity providers cannot be listed; those known are read.",
    "retention_near": "Rows that were not read yet are about to expire at Cloudflare.",
    "round_ended": "A window was read to its end.",
    "rows_dropped": "A best-effort sink lost its oldest rows to make room.",
    "secret_changed": "A secret file changed and is read again.",
    "settings_refused": "New settings have faults; the old ones stay in force.",
    "settings_reloaded": "New settings are in force.",
    "settings_warning": "The settings work, but something about them is unwise.",
    "sink_drained": "A sink has stopped; batches without an answer are sent again later.",
    "sink_held": "A sink waits for a person; it tries again by itself now and then.",
    "sink_note": "A destination accepted events with a remark.",
    "sink_opened": "A destination can be written to.",
    "sink_open_failed": "A destination cannot be reached; it is tried again.",
    "sink_phase": "A sink went from one phase to another.",
    "sink_recovered": "A destination works again.",
    "sink_throttled": "A destination asked for less.",
    "sink_waiting": "A destination is out; its events wait in the journal.",
    "sink_write_failed": "A batch got no answer or an error; it is sent again.",
    "started": "The forwarder has started.",
    "stopped": "The forwarder has stopped; `settled` is false when batches were cut off.",
    "stopping": "The forwarder was asked to stop and settles what is under way.",
    "stream_held": "Cloudflare refuses in a way that only a person can mend.",
    "task_crashed": "A fault of the program; the task was started again.",
    "task_stuck": "A task gave no sign of life; `/livez` fails.",
    "token_blocked": "Cloudflare blocks the token for using up its request budget.",
}


def logs_page(lines: Mapping[LogEvent, Described]) -> str:
    """Return the page; raises ``ValueError`` for a name that has no meaning here."""
    if unexplained := [event.value for event in lines if event not in _MEANINGS]:
        raise ValueError(f"say in {__name__} what these mean: {', '.join(unexplained)}")
    return _HEAD + "".join(_row(event, lines[event]) for event in sorted(lines))


def _row(event: LogEvent, line: Described) -> str:
    levels = " or ".join(level.name.lower() for level in sorted(line.levels))
    keys = ", ".join(f"`{key}`" for key in line.keys)
    return f"| `{event}` | {levels} | {_MEANINGS[event]} | {keys} |\n"
