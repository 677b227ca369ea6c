"""A log line before it is written, and the names that a line may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum, auto
from typing import Any


class Level(IntEnum):
    """Severities, as the standard library numbers them."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class LogEvent(StrEnum):
    """Every name that the key ``event`` of a log line can have."""

    ADMIN_LISTENING = auto()
    ADMIN_TLS_UNUSABLE = auto()
    BACKFILL_ENDED = auto()
    BACKFILL_MOVED = auto()
    BATCH_SETTLED = auto()
    BATCH_SPLIT = auto()
    BODY_REPAIRED = auto()
    EVENTS_DEAD_LETTERED = auto()
    GAP_CLOSED = auto()
    GAP_OPENED = auto()
    GATE_CLOSED = auto()
    GATE_OPENED = auto()
    JOURNAL_PRUNED = auto()
    JOURNAL_TROUBLED = auto()
    LANE_FINISHED = auto()
    LIBRARY = auto()
    PAGE_STORED = auto()
    PARTS_CHANGED = auto()
    PART_JOINED = auto()
    PLUGIN = auto()
    POLL_FAILED = auto()
    POLL_RECOVERED = auto()
    PROVIDERS_CHANGED = auto()
    PROVIDERS_NOT_LISTED = auto()
    RETENTION_NEAR = auto()
    ROUND_ENDED = auto()
    ROWS_DROPPED = auto()
    SECRET_CHANGED = auto()
    SETTINGS_REFUSED = auto()
    SETTINGS_RELOADED = auto()
    SETTINGS_WARNING = auto()
    SINK_DRAINED = auto()
    SINK_HELD = auto()
    SINK_NOTE = auto()
    SINK_OPENED = auto()
    SINK_OPEN_FAILED = auto()
    SINK_PHASE = auto()
    SINK_RECOVERED = auto()
    SINK_THROTTLED = auto()
    SINK_WAITING = auto()
    SINK_WRITE_FAILED = auto()
    STARTED = auto()
    STOPPED = auto()
    STOPPING = auto()
    STREAM_HELD = auto()
    TASK_CRASHED = auto()
    TASK_STUCK = auto()
    TOKEN_BLOCKED = auto()


@dataclass(frozen=True, slots=True)
class Line:
    """One log line. ``limited`` lines that repeat within a minute are counted, not written."""

    level: Level
    event: LogEvent
    fields: Mapping[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    limited: bool = False

    @property
    def subject(self) -> tuple[Any, ...]:
        """Return what makes two limited lines the same: name, context and reason."""
        keys = ("account", "stream", "reader", "sink", "task", "reason", "code", "library", "where")
        return (self.event, *(self.fields.get(key) for key in keys))
