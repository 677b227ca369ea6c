"""The contract of a journal: what the engine, the runtime and the commands ask of any of them.

A journal keeps rows, the positions of their readers, each sink's place, dead letters and gaps.
``JournalView`` reads; commands open one beside a running daemon or without it. ``Journal`` owns:
it is opened once by one process and writes. Every method is one transaction, durable when it
returns, and raises ``TransientError`` (nothing was stored; retry), ``DamagedError`` or
``StateError``. ``forwarder.testing.JournalContract`` is the suite that any engine must pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from forwarder.core.contracts import Record, StoredPage, StreamKey, Window
from forwarder.core.errors import BadRequestError, TransientError
from forwarder.core.log import KeySet, Progress, SinkQueue, StreamLog
from forwarder.core.telemetry import (
    DEBUG,
    ERROR,
    INFO,
    WARNING,
    TelemetryEvent,
    constant,
    event,
    instant,
    shown,
)

StartAt = Literal["now", "beginning"]
Fate = Literal["delivered", "dead", "waiting", "skipped", "forgotten", "missing"]

OPEN, DONE, CANCELLED = "open", "done", "cancelled"
EARLIEST_US, LATEST_US = 946_684_800_000_000, 4_102_444_800_000_000
"""Moments that commands take: 2000-01-01 to 2100-01-01."""
MOST_LETTERS = 10_000
"""Dead letters of one sink; a destination that refuses everything must not fill the journal."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """The bounds: bytes of bodies, microseconds for what is delivered, dead letters of a sink."""

    max_size: int
    keep_delivered_us: int
    letters: int = MOST_LETTERS
    letter_bytes: int = 64 * 2**20

    @property
    def room(self) -> int:
        """Return the bytes for rows; the rest is for acknowledgements, gaps, dead letters."""
        # A sink must be able to acknowledge while the journal is full, or it would stay full.
        return int(self.max_size * 0.95)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the journal holds: bytes a blocking sink still needs, of all bodies, of the file.

    ``stored_rows`` are those whose bodies are kept.
    """

    undelivered_bytes: int
    stored_bytes: int
    file_bytes: int
    stored_rows: int


@dataclass(frozen=True, slots=True)
class SinkPlace:
    """Where a sink stands in one lane.

    ``backlog`` counts the events it has not acknowledged, ``oldest_seen_us`` says when the first
    of them was seen. ``running`` is False for one that the settings no longer name.
    """

    sink: str
    lane: str
    progress: Progress
    backlog: int
    oldest_seen_us: int | None
    running: bool


@dataclass(frozen=True, slots=True)
class SinkRecord:
    """A sink the journal knows: what waits for it over all lanes, and its dead letters."""

    name: str
    created_us: int
    backlog: int
    dead_letters: int
    lanes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was given up with a forgotten sink: events that waited, and dead letters."""

    events: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """A lane; ``spec`` is what it was asked to do, ``sinks`` who reads it.

    A lane is ``done`` when nothing more is appended and every running sink is through with it.
    """

    name: str
    state: str
    from_offset: int
    end_offset: int | None
    created_us: int
    spec: Mapping[str, Any]
    sinks: Sequence[str]


@dataclass(frozen=True, slots=True)
class LaneCancelled:
    """What became of a cancelled lane's unfinished events.

    ``found_again``: rows that no sink had received and that a reader is still to read: they were
    forgotten, so they come again. ``lost``: events, counted for each sink that should have had
    them, in its gap ``lane_cancelled``. ``returned``: dead letters that are dead letters again.
    """

    lane: str
    found_again: int
    lost: int
    returned: int


@dataclass(frozen=True, slots=True)
class Gap:
    """One record of the ledger; ``closed_us`` is None while more may be added to it."""

    id: int
    scope: str
    reason: str
    since_us: int
    until_us: int
    rows: int | None
    detail: str
    opened_us: int
    closed_us: int | None


@dataclass(frozen=True, slots=True)
class GapCount:
    """How many records the ledger has, and how many of them are open."""

    total: int
    open: int


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A stored dead letter of a ``shard`` (None: there is one); ``event_id`` is 32 hex digits."""

    id: int
    sink: str
    account_id: str
    stream: str
    offset: int
    at_us: int
    seen_us: int
    time_us: int
    size: int | None
    reason: str
    event_id: str
    row: bytes = field(repr=False)
    shard: int | None = None


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """The dead letters of one sink with one reason; ``latest_us`` is when the last one died."""

    sink: str
    reason: str
    events: int
    latest_us: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader of a stream is; ``reading_until_us`` when a round is under way."""

    account_id: str
    stream: str
    reader: str
    covered_until_us: int
    reading_until_us: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class Passed:
    """A half-open range of offsets that a sink was moved past in a lane, and why."""

    lane: str
    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the rows that the API has ``shown``, for one sink.

    ``delivered``: acknowledged, or left out by the sink's own filters. ``dead``: in its dead
    letters. ``waiting``: still to come, out of the journal or by the next poll. ``skipped``: with
    intent, since they were stored before the sink began, or discarded from its dead letters.
    ``forgotten``: of a time that the journal keeps no identities of any more. ``missing``: the
    rest, lost rows among them, between ``first_missing_us`` and ``last_missing_us``.
    """

    shown: int = 0
    delivered: int = 0
    dead: int = 0
    waiting: int = 0
    skipped: int = 0
    forgotten: int = 0
    missing: int = 0
    first_missing_us: int | None = None
    last_missing_us: int | None = None

    def plus(self, other: Verdict) -> Verdict:
        """Return both together."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        first = [at for v in (self, other) if (at := v.first_missing_us) is not None]
        last = [at for v in (self, other) if (at := v.last_missing_us) is not None]
        return Verdict(
            **counts,
            first_missing_us=min(first, default=None),
            last_missing_us=max(last, default=None),
        )


# In the order in which they are shown.
COUNTS = ("shown", "delivered", "dead", "waiting", "skipped", "forgotten", "missing")


def with_name(scope: str, labels: Mapping[str, str]) -> str:
    """Return a gap's scope with the account's name, out of ``labels``, in place of its id."""
    account_id, slash, stream = scope.partition("/")
    return f"{labels.get(account_id, account_id)}{slash}{stream}"


def _parties(scope: str) -> tuple[str | None, str | None, str | None]:
    """Return account, stream and sink of a gap; None for what the scope does not name."""
    if scope.startswith("sink:"):
        return None, None, scope.removeprefix("sink:")
    # From the right: a scope may begin with an account's label, which may hold a slash.
    account, _, stream = scope.rpartition("/")
    return account, stream, None


@event("gap_opened", ERROR, hint="forwarder gaps list")
class GapOpened(TelemetryEvent):
    """Rows were, or may have been, lost.

    ``scope`` is ``account/stream`` or ``sink:NAME``; ``rows`` is None if their number is unknown.
    """

    scope: str = shown("account", "stream", "sink", by=_parties)
    reason: str
    since_us: int = instant("from")
    until_us: int = instant("to")
    rows: int | None
    detail: str


@event("gap_closed", INFO)
class GapClosed(TelemetryEvent):
    """Nothing more is being lost for this reason."""

    scope: str = shown("account", "stream", "sink", by=_parties)
    reason: str
    rows: int | None


@event("rows_dropped", WARNING, limited=True, hint="raise journal.max_size or fix the sink")
class RowsDropped(TelemetryEvent):
    """A best-effort sink lost its oldest rows to make room."""

    sink: str
    rows: int
    reason: str = constant("when_full: drop_oldest")


@event("journal_pruned", DEBUG)
class JournalPruned(TelemetryEvent):
    """Delivered rows were removed from the journal.

    ``emptied`` pages lost their bodies, ``removed`` pages are gone; ``bytes`` is the sum of both.
    """

    emptied: int
    removed: int
    bytes: int


def check_moment(moment_us: int) -> int:
    """Return a moment of a command; raises ``BadRequestError`` for one that no source can hold.

    A position outside of this range would stop its stream for good: readers step back and forth
    from it, and the answer must still be a date.
    """
    if not EARLIEST_US <= moment_us <= LATEST_US:
        allowed = "between 2000-01-01T00:00:00Z and 2100-01-01T00:00:00Z"
        raise BadRequestError(f"a moment must lie {allowed}")
    return moment_us


class JournalView(Protocol):
    """Reads a journal; each answer is one consistent state of it."""

    async def aclose(self) -> None:
        """Give the connection back; idempotent."""
        ...

    async def sinks(self) -> Sequence[SinkRecord]:
        """Return every sink the journal knows, running or absent, the oldest first."""
        ...

    async def places(self) -> Sequence[SinkPlace]:
        """Return every sink's place and backlog in every lane where it is not done."""
        ...

    async def lanes(self) -> Sequence[LaneRecord]:
        """Return every lane, the oldest first."""
        ...

    async def cursors(self) -> Sequence[Cursor]:
        """Return every reader of every stream."""
        ...

    async def gaps(self) -> Sequence[Gap]:
        """Return the whole ledger, the oldest first."""
        ...

    async def latest_gaps(self, limit: int) -> Sequence[Gap]:
        """Return open records, then the latest closed ones, at most ``limit``."""
        ...

    async def count_gaps(self) -> GapCount:
        """Return the size of the ledger."""
        ...

    async def letters(
        self, *, sink: str | None = None, letter_id: int | None = None, limit: int | None = None
    ) -> Sequence[StoredLetter]:
        """Return dead letters, the oldest first; ``StateError`` for a sink it does not know."""
        ...

    async def summarise_letters(self, limit: int) -> Sequence[LetterGroup]:
        """Return dead letters by sink and reason, the latest first, at most ``limit`` groups."""
        ...

    async def count_letters(self) -> Mapping[str, int]:
        """Return how many dead letters each sink that has some keeps."""
        ...

    async def passed_over(self, sink: str) -> Sequence[Passed]:
        """Return what a sink was moved past without a delivery, by lane and offset."""
        ...

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Return the rows of a lane that are kept, as ``SinkQueue.read`` does."""
        ...

    async def key_sets(self, key: StreamKey) -> Sequence[KeySet]:
        """Return the key sets of a stream in order of appearance."""
        ...

    async def recall(self, scope: str, key: str) -> Any | None:
        """Return a JSON value that was kept, or None; a stream's scope is ``str(StreamKey)``."""
        ...

    async def pages(self, key: StreamKey, window: Window, start: int) -> list[StoredPage] | None:
        """Return some pages in a window, from ``start`` on; None: rows of that time may be gone."""
        ...

    async def judge(
        self,
        key: StreamKey,
        records: Sequence[Record],
        aliases: Mapping[int, Sequence[bytes]],
        sinks: Sequence[str],
        unread_us: int | None = None,
    ) -> Mapping[str, Verdict]:
        """Return sinks' verdicts; ``aliases`` as in ``Addition``; rows after ``unread_us`` wait."""
        ...


class Journal(JournalView, Protocol):
    """The one journal of a running daemon, or of a command that works without one."""

    @property
    def trouble(self) -> TransientError | None:
        """Return why nothing can be written at present (a full disk, a lost volume), or None."""
        ...

    @property
    def ended(self) -> TransientError | None:
        """Return why this object can never write again, or None; another must be opened then."""
        ...

    def stream_log(self, key: StreamKey) -> StreamLog:
        """Return the log of one stream."""
        ...

    async def sink_queue(
        self, name: str, *, start_at: StartAt = "now", blocking: bool = True
    ) -> SinkQueue:
        """Return a sink's queue; from now on the sink runs: it holds the gate and its rows.

        A sink that was absent gets what is still there, in every lane.
        """
        ...

    def leave(self, name: str) -> None:
        """Make a sink absent: it keeps its place in every lane and holds nothing."""
        ...

    async def forget_sink(self, name: str) -> Forgotten:
        """Give up an absent sink; what waited is a gap. ``StateError`` for a running one."""
        ...

    async def maintain(self, elsewhere: int = 0, awaited: Collection[str] = ()) -> None:
        """Remove what nobody needs; other shards hold ``elsewhere``, ``awaited`` sinks are away."""
        ...

    async def undelivered_bytes(self) -> int:
        """Return the bytes that a blocking sink still needs: what the gate measures.

        Replays do not count: they read what is there anyway, and must never stop reading.
        """
        ...

    async def usage(self) -> Usage:
        """Return the sizes for metrics and status."""
        ...

    async def append_own(self, account_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store events of the forwarder's own (start, stop, reload) for the sinks."""
        ...

    async def open_backfill(self, name: str, spec: Mapping[str, Any], sinks: Sequence[str]) -> None:
        """Add a lane for some sinks, or for all the journal knows when none is named.

        Raises ``StateError`` for a sink the journal does not know.
        """
        ...

    async def close_lane(self, name: str) -> None:
        """Note that nothing more will be appended; its readers are forgotten."""
        ...

    async def stop_lane(self, name: str) -> None:
        """Take a lane out of the sinks' lanes before it is cancelled.

        Acknowledgements of writes in flight still count. ``StateError`` when it is not open.
        """
        ...

    async def cancel_lane(self, name: str) -> LaneCancelled:
        """Settle what nobody finished of a lane, and end it; call ``stop_lane`` first."""
        ...

    async def replay(self, lane: str, sink: str, since_us: int) -> int:
        """Open a lane over the kept rows first seen since then; return how many.

        Raises ``StateError`` when nothing is kept from then on.
        """
        ...

    async def replay_letters(self, lane: str, sink: str, letter_ids: Collection[int] | None) -> int:
        """Deliver dead letters (all without ids) again in a lane of their own; return how many."""
        ...

    async def drop_letters(self, sink: str, letter_ids: Collection[int] | None) -> int:
        """Discard dead letters (all without ids) for good; return how many."""
        ...

    async def move_cursor(self, key: StreamKey, to_us: int) -> Cursor:
        """Set the live position of a stream; what is jumped over is a gap.

        A moment beyond now is now. Nobody may be reading the stream. Raises ``StateError`` for an
        unknown stream, ``BadRequestError`` for a moment that no source can hold.
        """
        ...

    async def keep(self, scope: str, key: str, value: Any) -> None:
        """Keep a small JSON value."""
        ...
