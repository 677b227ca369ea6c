"""What happens while a stream is read."""

from __future__ import annotations

from dataclasses import dataclass

from forwarder.core.telemetry import TelemetryEvent


@dataclass(frozen=True, slots=True)
class StreamEvent(TelemetryEvent):
    """Belongs to one stream of one account; ``account`` is the label."""

    account: str
    stream: str


@dataclass(frozen=True, slots=True)
class PageStored(StreamEvent):
    """A page is in the journal with the position behind it.

    ``late_s`` has one entry a late row: seconds between the row's time and the server's clock
    when it was first shown. ``stored_s`` is the time from the answer to the commit.
    """

    reader: str
    rows: int
    new: int
    reshaped: int
    malformed: int
    timeless: int
    late_s: tuple[float, ...]
    stored_s: float


@dataclass(frozen=True, slots=True)
class RoundEnded(StreamEvent):
    """A window was read to its end; ``covered_until_us`` is the reader's new place."""

    reader: str
    covered_until_us: int
    retention_left_s: float
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RoundStarted(StreamEvent):
    """A live poll begins; ``late_by_s`` says how much later than planned."""

    late_by_s: float


@dataclass(frozen=True, slots=True)
class FetchFailed(StreamEvent):
    """A page could not be read or stored; it is tried again after ``wait_s`` seconds."""

    reader: str
    error: str
    hint: str
    attempt: int
    wait_s: float
    held: bool


@dataclass(frozen=True, slots=True)
class FetchRecovered(StreamEvent):
    """After failures a page was read again."""

    reader: str
    attempts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RetentionNear(StreamEvent):
    """Half of the retention or more lies between covered-until and now."""

    retention_left_s: float


@dataclass(frozen=True, slots=True)
class PartJoined(StreamEvent):
    """A new part of a stream (identity provider) is level and goes with the others now."""

    part: str


@dataclass(frozen=True, slots=True)
class PartsChanged(StreamEvent):
    """Parts appeared or left."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateMoved(TelemetryEvent):
    """The journal is full and polling stops, or there is room again."""

    closed: bool
    undelivered_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class BackfillMoved(StreamEvent):
    """A backfill came further, or ended."""

    lane: str
    done_until_us: int
    until_us: int
    rows: int
    ended: bool
