"""What happens while a stream is read."""

from __future__ import annotations

from dataclasses import dataclass

from forwarder.core.telemetry import (
    DEBUG,
    ERROR,
    INFO,
    WARNING,
    TelemetryEvent,
    constant,
    event,
    hidden,
    instant,
    rounded,
)


@dataclass(frozen=True, slots=True)
class StreamEvent(TelemetryEvent):
    """Belongs to one stream of one account; ``account`` is the label."""

    account: str
    stream: str


@event("page_stored", DEBUG)
class PageStored(StreamEvent):
    """Rows of one answer were stored.

    ``late_s`` has one entry a late row: seconds between the row's time and the server's clock
    when the row was first shown. ``stored_s`` is the time from the answer to the commit.
    """

    reader: str
    rows: int
    new: int
    reshaped: int = hidden()
    malformed: int = hidden()
    timeless: int = hidden()
    late_s: tuple[float, ...] = hidden()
    stored_s: float = hidden()
    amended: int = hidden()


@event("round_ended", DEBUG)
class RoundEnded(StreamEvent):
    """A window was read to its end; ``covered_until`` is the reader's new position."""

    reader: str
    covered_until_us: int = instant("covered_until")
    rows: int
    seconds: float = rounded(3)


@event()
class RoundStarted(StreamEvent):
    """A live poll begins; ``late_by_s`` says how much later than planned."""

    late_by_s: float


@event("poll_failed", WARNING, limited=True)
class FetchFailed(StreamEvent):
    """Cloudflare could not be read, or a page not stored; the request is retried."""

    reader: str
    reason: str = constant("outage")
    error: str
    hint: str
    attempt: int
    wait_s: float = rounded(1, "retry_in_seconds")


@event("stream_held", ERROR, limited=True)
class StreamHeld(FetchFailed):
    """Cloudflare refuses requests until a person fixes the cause."""

    reason: str = constant("operator")


@event("poll_recovered", INFO)
class FetchRecovered(StreamEvent):
    """Cloudflare can be read again."""

    reader: str
    attempts: int
    seconds: float = rounded(1, "after_seconds")


@event(
    "retention_near",
    WARNING,
    limited=True,
    hint="rows that are not read by then are lost; see in forwarder status why reading is behind",
)
class RetentionNear(StreamEvent):
    """Rows that were not read yet are about to expire at Cloudflare.

    Emitted while half of the retention or more lies between covered-until and now.
    """

    retention_left_s: float = rounded(0, "seconds_left")


@event("part_joined", INFO)
class PartJoined(StreamEvent):
    """A new identity provider's history has been read; the live reader takes over."""

    part: str


@event("parts_changed", INFO)
class PartsChanged(StreamEvent):
    """The identity providers that are read changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


@event("gate_opened", INFO)
class GateOpened(TelemetryEvent):
    """The journal has room again; polling resumes."""

    undelivered_bytes: int
    limit_bytes: int


@event(
    "gate_closed",
    ERROR,
    hint="see in forwarder status which sink is behind, and fix it; or raise journal.max_size",
)
class GateClosed(TelemetryEvent):
    """The journal is full; polling stops until a sink catches up."""

    undelivered_bytes: int
    limit_bytes: int


@event("backfill_moved", DEBUG)
class BackfillMoved(StreamEvent):
    """A backfill has read another part of its window."""

    lane: str
    done_until_us: int = instant("done_until")
    until_us: int = instant("until")
    rows: int


@event("backfill_ended", INFO)
class BackfillEnded(BackfillMoved):
    """A backfill has read its window to the end."""
