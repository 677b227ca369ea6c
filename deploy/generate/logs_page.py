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
_MEANINGS: Mapping[LogEvent, str] = {
    LogEvent.ADMIN_LISTENING: "Status and metrics can be asked for at this address.",
    LogEvent.BACKFILL_ENDED: "A backfill has read its window to the end.",
    LogEvent.BACKFILL_MOVED: "A backfill has read another part of its window.",
    LogEvent.BATCH_SETTLED: "A destination answered for a batch.",
    LogEvent.BATCH_SPLIT: "A batch was refused whole or too large, and is tried in halves.",
    LogEvent.BODY_REPAIRED: "An answer of Cloudflare was no valid JSON; its rows were saved one by "
    "one, those that could not be read as text.",
    LogEvent.EVENTS_DEAD_LETTERED: "A destination refused events for good; they are kept.",
    LogEvent.GAP_CLOSED: "Nothing more is being lost for this reason.",
    LogEvent.GAP_OPENED: "Rows were, or may have been, lost.",
    LogEvent.GATE_CLOSED: "The journal is full; nothing is read until a sink catches up.",
    LogEvent.GATE_OPENED: "The journal has room again.",
    LogEvent.JOURNAL_PRUNED: "Delivered rows were removed from the journal.",
    LogEvent.JOURNAL_TROUBLED: "The journal could not be read or written; it is tried again.",
    LogEvent.LANE_FINISHED: "A sink has everything of a backfill or replay.",
    LogEvent.LIBRARY: "A library warned.",
    LogEvent.PAGE_STORED: "Rows of one answer were stored.",
    LogEvent.PARTS_CHANGED: "The identity providers that are read changed.",
    LogEvent.PART_JOINED: "A new identity provider's history has been read.",
    LogEvent.PLUGIN: "A plugin reported something of its own; `code` says what.",
    LogEvent.POLL_FAILED: "Cloudflare could not be read; it is tried again.",
    LogEvent.POLL_RECOVERED: "Cloudflare can be read again.",
    LogEvent.PROVIDERS_CHANGED: "Identity providers appeared or vanished at Cloudflare.",
    LogEvent.PROVIDERS_NOT_LISTED: "The identity providers cannot be listed; those known are read.",
    LogEvent.RETENTION_NEAR: "Rows that were not read yet are about to expire at Cloudflare.",
    LogEvent.ROUND_ENDED: "A window was read to its end.",
    LogEvent.ROWS_DROPPED: "A best-effort sink lost its oldest rows to make room.",
    LogEvent.SECRET_CHANGED: "A secret file changed and is read again.",
    LogEvent.SETTINGS_REFUSED: "New settings have faults; the old ones stay in force.",
    LogEvent.SETTINGS_RELOADED: "New settings are in force.",
    LogEvent.SETTINGS_WARNING: "The settings work, but something about them is unwise.",
    LogEvent.SINK_DRAINED: "A sink has stopped; batches without an answer are sent again later.",
    LogEvent.SINK_HELD: "A sink waits for a person; it tries again by itself now and then.",
    LogEvent.SINK_NOTE: "A destination accepted events with a remark.",
    LogEvent.SINK_OPENED: "A destination can be written to.",
    LogEvent.SINK_OPEN_FAILED: "A destination cannot be reached; it is tried again.",
    LogEvent.SINK_PHASE: "A sink went from one phase to another.",
    LogEvent.SINK_RECOVERED: "A destination works again.",
    LogEvent.SINK_THROTTLED: "A destination asked for less.",
    LogEvent.SINK_WAITING: "A destination is out; its events wait in the journal.",
    LogEvent.SINK_WRITE_FAILED: "A batch got no answer or an error; it is sent again.",
    LogEvent.STARTED: "The forwarder has started.",
    LogEvent.STOPPED: "The forwarder has stopped; `settled` is false when batches were cut off.",
    LogEvent.STOPPING: "The forwarder was asked to stop and settles what is under way.",
    LogEvent.STREAM_HELD: "Cloudflare refuses in a way that only a person can mend.",
    LogEvent.TASK_CRASHED: "A fault of the program; the task was started again.",
    LogEvent.TASK_STUCK: "A task gave no sign of life; `/livez` fails.",
    LogEvent.TOKEN_BLOCKED: "Cloudflare blocks the token for using up its request budget.",
}


def logs_page(lines: Mapping[LogEvent, Described]) -> str:
    """Return the page; raises ``KeyError`` for a name that has no meaning here."""
    return _HEAD + "".join(_row(event, lines[event]) for event in sorted(lines))


def _row(event: LogEvent, line: Described) -> str:
    levels = " or ".join(level.name.lower() for level in sorted(line.levels))
    keys = ", ".join(f"`{key}`" for key in line.keys)
    return f"| `{event}` | {levels} | {_MEANINGS[event]} | {keys} |\n"
