"""What the engine and the journal say to each other: values and two protocols, no storage.

``ingest`` calls ``StreamLog`` and ``delivery`` calls ``SinkQueue``; the journal implements them.
Neither side imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from forwarder.core.contracts import LIVE, Lost, Record, StoredPage, Window
from forwarder.core.telemetry import TelemetryEvent, event


@dataclass(frozen=True, slots=True)
class ReaderState:
    """How far one reader of a stream has come.

    All rows up to ``covered_until_us`` that the API showed in time have been read. ``window`` is
    the round under way and ``position`` the place inside it; both None between rounds.
    ``rows`` counts the new rows of the slice under way, for the coverage event at its end.
    ``reached_us`` is how far the round under way has read; a long catch-up that is interrupted
    has lost only what expired above it.
    """

    covered_until_us: int
    window: Window | None = None
    position: Any | None = None
    rows: int = 0
    reached_us: int | None = None

    @property
    def read_until_us(self) -> int:
        """Return how far everything has been read, the round under way included."""
        return max(self.covered_until_us, self.reached_us or self.covered_until_us)


MOST_KEY_SETS = 64
"""Remembered for one stream; usual rows have a handful."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """A set of row keys, and how far the stream had come when it was first seen.

    Rows that were stored before then are at most ``horizon_us`` old and lie below ``offset``.
    """

    keys: frozenset[str]
    horizon_us: int
    offset: int


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """What is stored of a stream: its readers by name and the key sets in order of appearance."""

    readers: Mapping[str, ReaderState]
    key_sets: Sequence[KeySet]


def _nothing(_: int) -> Sequence[Mapping[str, Any]]:
    return ()


@dataclass(frozen=True, slots=True)
class Addition:
    """One page for the log and the reader's new state; stored together or not at all.

    ``aliases`` maps a record's index to identities that it may have been stored under before
    rows got more keys. ``again`` stores rows although they were seen (``backfill --again``).
    ``known`` are the key sets that were remembered when the page was asked for; None: whatever is.
    ``new_keys`` are key sets to remember, ``old_keys`` ones to forget. ``lost`` goes to the gap
    ledger; ``settled`` says that a live round ended, so that open gaps of the stream are closed
    unless it lost something.
    ``tell(rows)`` gets the reader's count of new rows, this page's included, and gives events of
    the forwarder's own (JSON objects for the stream ``forwarder`` of the same account); when it
    gives any, the count restarts. It is pure: it runs inside the transaction.
    ``twins`` are indices of records to store although they were seen: nothing tells an equal row
    from one that was sent again. ``once`` names an addition that may come again because its answer
    was lost: within a day the same name is stored once in a stream.
    """

    reader: str
    state: ReaderState
    seen_us: int
    records: Sequence[Record] = ()
    aliases: Mapping[int, Sequence[bytes]] = field(default_factory=dict)
    known: Sequence[KeySet] | None = None
    new_keys: Sequence[frozenset[str]] = ()
    old_keys: Sequence[frozenset[str]] = ()
    lost: Sequence[Lost] = ()
    tell: Callable[[int], Sequence[Mapping[str, Any]]] = _nothing
    lane: str = LIVE
    again: bool = False
    settled: bool = False
    twins: Collection[int] = ()
    once: str = ""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an addition.

    ``new`` holds the indices of the records that were not known; ``reshaped`` counts those known
    under an earlier key set; ``rows`` is the reader's count now, ``key_sets`` what is remembered.
    ``overtaken``: nothing was stored, neither rows nor the reader's state. While the page was on
    its way another reader stored rows with more keys, maybe these very rows; ask for it again.
    ``repeated``: nothing was stored, since an addition with this ``once`` was.
    """

    new: Sequence[int]
    reshaped: int
    rows: int
    key_sets: Sequence[KeySet]
    overtaken: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one sink has come in one lane.

    Every offset below ``prefix`` is done: delivered, dead or passed over. So are the half-open
    ``ranges`` above it, sorted and apart, so that a restart sends again only what nobody
    acknowledged.
    """

    prefix: int
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """Return the offset after the last one that is done."""
        return self.ranges[-1][1] if self.ranges else self.prefix

    def holds(self, offset: int) -> bool:
        """Return True if an offset is done."""
        return offset < self.prefix or any(start <= offset < end for start, end in self.ranges)

    def union(self, other: Progress) -> Progress:
        """Return what is done in either; nothing that is done ever becomes undone."""
        # In order of their starts, a range can only touch the prefix or the range before it.
        prefix, merged = max(self.prefix, other.prefix), list[tuple[int, int]]()
        for start, end in sorted((*self.ranges, *other.ranges)):
            if start <= prefix:
                prefix = max(prefix, end)
            elif merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        return Progress(prefix, tuple(merged))

    def outstanding(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the half-open ranges within ``start`` to ``end`` that are not done."""
        holes: list[tuple[int, int]] = []
        start = max(start, self.prefix)
        for begin, until in self.ranges:
            if start < min(begin, end):
                holes.append((start, min(begin, end)))
            start = max(start, until)
        return [*holes, (start, end)] if start < end else holes


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of events that a sink works through; ``end_offset`` is None while it still grows."""

    name: str
    progress: Progress
    end_offset: int | None


# Part of the text: a stored dead letter has a reason, and no flag beside it.
EXPECTED_REFUSAL = "expected refusal: "
"""What the reason of a dead letter begins with if the sink expects such refusals."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event given up for one sink; ``size`` in bytes when its size was the reason."""

    offset: int
    reason: str
    size: int | None = None

    @property
    def expected(self) -> bool:
        """Return True if it may leave again when the dead letters are full."""
        return self.reason.startswith(EXPECTED_REFUSAL)


class StreamLog(Protocol):
    """The log of one stream of one account. Every call is durable when it returns.

    Each raises ``TransientError`` when the disk is full or fails; nothing was stored then, and
    the poller repeats the call.
    """

    async def load(self) -> StreamMemory:
        """Return readers and key sets; called once, before the first round."""
        ...

    async def append(self, addition: Addition) -> Appended:
        """Store what is new of a page together with the reader's state."""
        ...

    async def forget(self, reader: str) -> None:
        """Remove a reader whose work is done."""
        ...

    async def recall(self, key: str) -> Any | None:
        """Return the JSON value that was kept under ``key`` (an IdP roster), or None."""
        ...

    async def keep(self, key: str, value: Any) -> None:
        """Keep a small JSON value under ``key``."""
        ...


class SinkQueue(Protocol):
    """One sink's view of the stored events.

    All lanes share one sequence of offsets, so the offsets inside a lane may jump. Any method may
    raise; the consumer then waits and calls again, and nothing is lost meanwhile.
    """

    async def lanes(self) -> Sequence[Lane]:
        """Return what there is to work through, the live lane first.

        Called at the start, after a ``wait`` has returned and when a lane has ended. A lane that
        is left out gets no more writes; those in flight are still acknowledged.
        """
        ...

    async def read(self, lane: str, offset: int, max_rows: int) -> Sequence[StoredPage]:
        """Return about ``max_rows`` rows at or after ``offset``, in order; ``[]``: none yet.

        The first page may begin before ``offset``. The same rows are read again after a
        failure, and rows that have vanished meanwhile (``drop_oldest``) count as done.
        """
        ...

    async def acknowledge(
        self, lane: str, progress: Progress, dead: Sequence[DeadLetter] = ()
    ) -> None:
        """Store how far the sink has come, together with its dead letters; durable on return.

        ``progress`` is complete, not a difference. Never called twice at the same time; after an
        exception the same dead letters come again. A lane that is being cancelled takes it, too;
        one that is over changes no more. Raises ``StateError`` for a place beyond what was stored:
        the caller remembers more than the journal has, and must start from it again.
        """
        ...

    async def wait(self, lane: str, offset: int) -> None:
        """Return when rows at or after ``offset`` may exist, or the set of lanes has changed."""
        ...

    async def dead_letter_room(self) -> tuple[int, int]:
        """Return how many events and bytes may still become dead letters.

        Expected refusals do not count: they leave when there is no more room.
        """
        ...


@event()
class JournalCommitted(TelemetryEvent):
    """A write transaction of the journal ended, well or not."""

    seconds: float
