"""The contracts of sinks and formats, and the values that pass through them.

The values that pass between rooms. Times are integers: microseconds since 1970, UTC.

The contracts between the engine and its plugins.

A plugin is a class named by an entry point (``forwarder.sources``, ``forwarder.sinks``,
``forwarder.formats``); it is imported only when the settings name it. ``Config`` is its settings
model, a subclass of ``forwarder.transport.settings.PluginSettings``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import orjson

from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock

FORWARDER_STREAM = "forwarder"
"""The stream of the forwarder's own events: start, stop, gap, late rows, coverage."""

LIVE = "live"
"""The lane that always goes first; the others are ``backfill:ID`` and ``replay:ID``."""
PUSH = "push"
"""The reader of a stream that is pushed: its position is the last push, and covers nothing."""


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Names one log of one account; ``account_id`` is Cloudflare's, never the label."""

    account_id: str
    stream: str

    def __str__(self) -> str:
        """Return ``account/stream`` for messages."""
        return f"{self.account_id}/{self.stream}"


@dataclass(frozen=True, slots=True)
class Window:
    """A closed range of row times, ``since_us`` to ``until_us``."""

    since_us: int
    until_us: int


class Record(NamedTuple):
    """One row as a source read it.

    ``row`` is a JSON object as received where possible (secrets in it masked), ``time_us`` its own
    time or None when it has no usable one, ``identity`` 16 bytes over the unmasked row,
    ``keys`` the row's keys (one shared frozenset for each distinct set).
    """

    row: bytes
    time_us: int | None
    # Over the unmasked row: a mask that learns a new word must not give old rows new ids.
    identity: bytes
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lost:
    """Rows that cannot be had: an instant that cannot be read whole, an unreadable body."""

    reason: str
    since_us: int
    until_us: int
    rows: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What one fetch brought.

    ``position`` is where the next fetch of the same window continues (any JSON value; only the
    source reads it), None when the window is read to its end. ``server_time_us`` is the other
    side's clock when it answered, None when it did not say. ``project(index, keys)`` gives the
    identity that record ``index`` had when rows carried only ``keys``. ``lost`` lists what the
    source had to pass over. ``reached_us``: everything of the window below it has been read,
    None when the source cannot say. ``amended`` counts rows that came before with other content:
    a row with an id of its own is delivered as it was first seen.
    """

    records: Sequence[Record]
    position: Any | None
    server_time_us: int | None
    project: Callable[[int, frozenset[str]], bytes]
    lost: tuple[Lost, ...] = ()
    malformed: int = 0
    reached_us: int | None = None
    amended: int = 0


# No slots: a cached_property keeps its value in __dict__.
@dataclass(frozen=True)
class StoredPage:
    """Rows out of the journal: one stored page or the tail of one, in offset order.

    ``offsets`` are consecutive from ``first_offset``. ``ids`` holds 16 bytes a row, ``times_us``
    one time a row (a row without a usable time has the time it was first seen, ``seen_us``),
    ``body`` a JSON array with the rows.
    """

    first_offset: int
    account_id: str
    stream: str
    seen_us: int
    times_us: Sequence[int]
    ids: bytes
    # A repr may end in a log or a traceback, where no row may be.
    body: bytes = field(repr=False)

    @property
    def count(self) -> int:
        """Return the number of rows."""
        return len(self.times_us)

    @property
    def end_offset(self) -> int:
        """Return the offset after the last row."""
        return self.first_offset + len(self.times_us)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Parse the rows; once for the sinks that share this page soon one after the other."""
        rows: list[dict[str, Any]] = orjson.loads(self.body)
        return rows

    @property
    def parsed(self) -> bool:
        """Return True if ``rows`` costs nothing."""
        return "rows" in self.__dict__

    @property
    def row_bytes(self) -> int:
        """Return about how many bytes of JSON a row has, at least 1."""
        if self.body:
            return max(1, len(self.body) // max(1, self.count))
        # A part of a page has no body of its own; a few rows tell enough.
        few = self.rows[:4]
        return max(1, len(orjson.dumps(few)) // max(1, len(few)))

    def part(self, low: int, high: int, rows: Sequence[dict[str, Any]]) -> StoredPage:
        """Return the rows from index ``low`` to ``high`` as a page; ``rows`` are these, parsed."""
        part = StoredPage(
            first_offset=self.first_offset + low,
            account_id=self.account_id,
            stream=self.stream,
            seen_us=self.seen_us,
            times_us=self.times_us[low:high],
            ids=self.ids[16 * low : 16 * high],
            # The rows are parsed already: a body would be a copy that nobody reads.
            body=b"",
        )
        return part.with_rows(rows)

    def with_rows(self, rows: Sequence[Any]) -> StoredPage:
        """Return this page; ``rows`` are what its body holds, so that nobody parses it again."""
        # A cached property keeps its value here, and a frozen dataclass may fill its own cache.
        self.__dict__["rows"] = list(rows)
        return self

    @cached_property
    def hex_ids(self) -> list[str]:
        """Return the event ids as the destinations see them: 32 hex digits each."""
        # One call for the whole page: a call for each row is slow.
        return self.ids.hex("-", -16).split("-") if self.ids else []


# One is made for each row and sink, and a tuple is made faster than a frozen dataclass.
class BatchEvent(NamedTuple):
    """One event, rendered for one sink.

    ``offset`` is its place in the journal, ``id`` 32 hex digits and the same at every delivery,
    ``account`` the account's label, ``time_us`` when it happened, ``seen_us`` when it was first
    seen here, ``outcome`` ``success``, ``failure`` or ``unknown``, ``user`` whom it is about (or
    empty), ``body`` the bytes for the destination without a line end.
    """

    offset: int
    id: str
    stream: str
    account: str
    time_us: int
    seen_us: int
    outcome: str
    user: str
    body: bytes


@dataclass(slots=True)
class Batch:
    """Events for one write, in offset order unless some of them are repeats.

    ``size`` is the sum of the bodies in bytes. All events are of one ``lane``: ``live``,
    ``backfill:ID`` or ``replay:ID``. A sink that has handed the bytes over and now
    only waits for the destination's word may ``release()`` the events; should the write fail the
    engine reads them again from the journal.
    """

    events: Sequence[BatchEvent]
    size: int
    lane: str = LIVE

    def lines(self) -> bytes:
        """Return the bodies, one a line."""
        return b"".join([part for event in self.events for part in (event.body, b"\n")])

    def release(self) -> None:
        """Drop the events; a sink calls this once, when it does not need them any more."""
        self.events = ()


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How a sink wants its batches; data, since the engine does the batching.

    ``max_wait`` and ``write_timeout`` are seconds. ``max_event_bytes`` is the largest body the
    destination takes; a larger one is rejected with its size, never cut.
    """

    max_events: int = 1000
    max_bytes: int = 1_000_000
    max_wait: float = 0.2
    max_in_flight: int = 4
    write_timeout: float = 60.0
    max_event_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that the destination will never take, with its reason in one short sentence.

    ``expected`` marks a refusal that is not a fault, such as an event that is too old for the
    destination. It becomes a dead letter whose reason begins with ``expected refusal:``, never
    counts towards the breaker, never holds the sink, and leaves first when dead letters are full.
    """

    offset: int
    reason: str
    expected: bool = False


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a batch; every event that is not named here was accepted.

    ``deferred`` holds offsets to try again alone; ``retry_after`` (seconds) and ``slow_down``
    ask the engine to ease off; ``notes`` are warnings worth a log line (no row content), each
    with a short stable code before a colon.
    """

    rejected: Sequence[Rejection] = ()
    deferred: frozenset[int] = frozenset()
    retry_after: float | None = None
    slow_down: bool = False
    notes: Sequence[str] = ()


ACCEPTED = WriteResult()
"""The whole batch was accepted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``check --live``: ``level`` is ``ok``, ``warning`` or ``fault``."""

    level: str
    subject: str
    text: str
    hint: str = ""


class Sink(Protocol):
    """Carries batches to one destination. The engine batches, retries, splits and waits."""

    @property
    def limits(self) -> BatchLimits:
        """Return how large and how many batches may be; read once, before ``open``."""
        ...

    async def open(self) -> None:
        """Connect and prove that writing can work.

        Called before the first write and again after a write failed, once all writes in flight
        have ended. Raises ``TransientError`` (outage) or ``NeedsOperatorError`` (token, index,
        permission). Must be repeatable; must not create anything at the destination.
        """
        # A misspelt index must be an error for a person, not a new index that nobody searches.
        ...

    async def write(self, batch: Batch) -> WriteResult:
        """Return when the destination has the batch durably.

        May run ``limits.max_in_flight`` times at once and may be cancelled at any await. Never
        retries, sleeps or splits. An outage raises ``TransientError``, an operator's fault
        ``NeedsOperatorError``, a batch refused whole ``BatchRefusedError``, one too large
        ``BatchTooLargeError``. A refused event is a value in the result. When in doubt whether
        an event arrived, raise: a duplicate can be removed, a lost row cannot be found.
        """
        ...

    async def aclose(self) -> None:
        """Release everything; idempotent, safe without ``open``, done within seconds."""
        ...


class Diagnoses(Protocol):
    """What a plugin may offer beside its contract, for ``check --live``."""

    async def diagnose(self) -> Sequence[Finding]:
        """Look, change nothing, and say what is right, what is missing and what to do."""
        ...


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What the runtime gives a sink beside its settings.

    ``name`` is the sink's name in the settings, ``format`` the name of its format and
    ``media_type`` what that format produces (``application/json`` or ``text/plain``);
    ``format_settings`` are the format's own settings, an instance of its ``Config``.
    ``user_agent`` names this program and version to the destination. ``replica`` tells this sink
    apart from those of other replicas and shards, empty if nobody shares the journal; ``shard`` is
    None unless the journal has several.
    """

    name: str
    format: str
    media_type: str
    clock: Clock
    user_agent: str = "forwarder"
    emit: Emit = ignore
    format_settings: Any = None
    replica: str = ""
    shard: int | None = None


class SinkPlugin(Protocol):
    """The class an entry point of ``forwarder.sinks`` names."""

    Config: ClassVar[type[Any]]
    default_format: ClassVar[str]
    summary: ClassVar[str]

    def __call__(self, config: Any, context: SinkContext) -> Sink:
        """Make the sink; does no I/O and raises ``ConfigError`` for what only it can judge."""
        ...


class Format(Protocol):
    """Turns a normalised event into bytes. Pure and total: any event gives one line.

    An event for which it still raises, or gives no bytes, becomes a dead letter of the sink.

    ``media_type`` is ``application/json`` or ``text/plain``. ``request_bodies`` is True if SCIM
    request bodies belong to an event unless a sink asks for the contrary. A format whose events are
    rows as received has ``as_received = True``: a pushed log keeps its own name there.
    """

    media_type: str
    request_bodies: bool

    def render(self, event: Any) -> bytes:
        """Return the event (a kind of ``forwarder.core.schema``) without a line end."""
        ...

    def adding(self, fields: Mapping[str, str]) -> Format:
        """Return this format with ``fields`` in every event, in place of what is there.

        JSON formats read the names as dotted paths, the others as keys.
        """
        ...


class FormatPlugin(Protocol):
    """The class an entry point of ``forwarder.formats`` names.

    One whose schema is closed may have ``nearest_path(path: str) -> str``, too: what is given back
    if an event may have a text there, else the nearest path where it may. ``add_fields`` is warned
    about with it.
    """

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]

    def __call__(self, config: Any) -> Format:
        """Make the format; does no I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Rendered:
    """A stored page as one sink will send it.

    ``events`` are in offset order; what the sink's filters dropped is missing there and counted in
    ``filtered``. ``end_offset`` is the offset after the page: all below it is accounted for.
    ``failed`` names the rows that could not be rendered, in offset order: they become dead letters.
    """

    events: Sequence[BatchEvent]
    end_offset: int
    filtered: int = 0
    failed: Sequence[Rejection] = ()


Render: TypeAlias = Callable[[StoredPage], Rendered]
"""Normalises, filters, shapes and renders; pure, never raises for a row. One for each sink."""
