"""The contracts between the engine and sources, and the records of a page.

The plugin is a class named by an entry point of ``forwarder.sources``; it is imported only when
the settings name it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, ClassVar, Protocol, overload, runtime_checkable

from forwarder.core.contracts import Lost, Page, Record, StreamKey, Window
from forwarder.core.schema import Normaliser
from forwarder.core.telemetry import Emit, ignore
from forwarder.core.timing import Clock


# eq=False: a generated hash would raise, since the columns are lists.
@dataclass(frozen=True, eq=False)
class Records(Sequence[Record]):
    """Records in columns; a sequence like a list of them.

    ``text`` is a compact JSON array of the rows, ``lengths`` has the bytes of each row in it.
    ``times_us``, ``identities`` and ``keys`` are as in ``Record``, one entry a row. ``parsed`` is
    what orjson makes of ``text``, or None.
    """

    # Columns, since most code goes through all rows of a page for one field.

    text: bytes = field(repr=False)
    lengths: Sequence[int]
    times_us: Sequence[int | None]
    identities: Sequence[bytes]
    keys: Sequence[frozenset[str]]
    parsed: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, records: Sequence[Record]) -> Records:
        """Return any records in columns; the very same object if they are."""
        if isinstance(records, Records):
            return records
        rows = [record.row for record in records]
        return cls(
            joined(rows),
            list(map(len, rows)),
            [record.time_us for record in records],
            [record.identity for record in records],
            [record.keys for record in records],
        )

    @cached_property
    def rows(self) -> Sequence[bytes]:
        """Return the rows one by one."""
        return list(cut(self.text, self.lengths))

    def part(self, indices: Sequence[int]) -> Records:
        """Return the records at ``indices``, which ascend."""
        if not indices or indices[-1] - indices[0] != len(indices) - 1:
            return Records.of([self[index] for index in indices])
        first, behind = indices[0], indices[-1] + 1
        if behind - first == len(self):
            return self
        lengths = self.lengths[first:behind]
        # 1 for the bracket, and a comma behind each row before.
        start = 1 + sum(self.lengths[:first]) + first
        end = start + sum(lengths) + len(lengths) - 1
        return Records(
            # A slice of bytes would copy the rows once more.
            b"".join((b"[", memoryview(self.text)[start:end], b"]")),
            lengths,
            self.times_us[first:behind],
            self.identities[first:behind],
            self.keys[first:behind],
            None if self.parsed is None else self.parsed[first:behind],
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.lengths)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...

    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        """Return one record, or a list of some."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        return Record(
            self.rows[place], self.times_us[place], self.identities[place], self.keys[place]
        )


def joined(rows: Iterable[bytes]) -> bytes:
    """Return a compact JSON array of JSON values."""
    return b"[" + b",".join(rows) + b"]"


def cut(text: bytes, lengths: Iterable[int]) -> Iterator[bytes]:
    """Give the elements of a compact JSON array whose lengths are known."""
    begin = 1
    for length in lengths:
        end = begin + length
        yield text[begin:end]
        begin = end + 1


class Purpose(IntEnum):
    """Why a page is read; the lower goes first where requests share a budget."""

    LIVE = 0
    RESCUE = 1
    """Live too, but so far behind that rows are close to expiring."""
    RECONCILE = 2
    BACKFILL = 3


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a stream that is read part by part (identity providers), and what to remember.

    ``ids`` is None for a stream without parts; empty means that there is nothing to read now,
    which is healthy. ``memory`` is any JSON value, given back at the next call.
    """

    ids: tuple[str, ...] | None = None
    memory: Any | None = None


class Source(Protocol):
    """Reads one stream of one account. Stateless: what it must remember is in the position."""

    async def fetch(
        self,
        window: Window,
        position: Any | None,
        *,
        parts: Sequence[str] = (),
        purpose: Purpose = Purpose.LIVE,
    ) -> Page:
        """Read the next page of ``window``, from its start when ``position`` is None.

        ``parts`` are the parts to read, used when ``position`` is None; a position remembers its
        own. The poller calls again with the position of the page until the position is None, also
        across restarts, and with positions that an older version wrote. Raises
        ``TransientError`` or ``NeedsOperatorError``; the poller waits and repeats the same call,
        after the latter with the parts of then. A row that cannot be read is a
        record too (malformed), never an exception.
        """
        ...

    async def parts(self, memory: Any | None, now_us: int) -> Parts:
        """Return the parts to read now; called before every live round, so it must be cheap.

        ``memory`` is what the last call returned, also across restarts; ``now_us`` is the other
        side's time in microseconds since 1970. Raises as ``fetch``.
        """
        ...

    async def server_time_us(self) -> int:
        """Return the other side's clock; called before the first round of a process."""
        ...


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What the runtime gives a source beside its settings; ``shared`` is what ``share`` made."""

    clock: Clock
    shared: Any
    user_agent: str = "forwarder"
    emit: Emit = ignore


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A stream to read and how; all times are seconds.

    ``settings`` has ``poll_interval``, ``start_from``, ``overlap`` and ``reconcile`` (ages). Rows
    that are younger than ``hold_back`` are read and delivered, and do not count as covered yet: the
    log shows some of them later. ``retention`` is how long this log is kept, None for what the
    account's settings say.
    """

    source: Source
    settings: Any
    hold_back: float = 0.0
    retention: float | None = None


class Shared(Protocol):
    """What the accounts of one process share (budgets of tokens)."""

    def snapshot(self) -> Any:
        """Return a JSON value for the next process; the runtime keeps it every few seconds."""
        ...


class SourcePlugin(Protocol):
    """The class an entry point of ``forwarder.sources`` names; one object an account.

    ``Config`` also has ``account_id``, ``label`` and ``retention`` (seconds).
    """

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]
    normalisers: ClassVar[Mapping[str, Normaliser]]

    def __call__(self, config: Any, context: SourceContext) -> SourcePlugin:
        """Make the source of one account; does no I/O."""
        ...

    def share(self, clock: Clock, remembered: Any | None) -> Shared:
        """Make what all accounts share; ``remembered`` is an earlier ``snapshot()`` or None."""
        ...

    def streams(self) -> Mapping[str, StreamPlan]:
        """Return the streams that the settings switch on."""
        ...

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        ...


@runtime_checkable
class Expiring(Protocol):
    """A source whose credential may end; a source need not be one."""

    async def credential_expires_s(self) -> float | None:
        """Ask the other side when the credential ends, in seconds since 1970; None if never.

        None, too, if it does not say. Called about once an hour. Raises ``TransientError``.
        """
        ...


@runtime_checkable
class Pushing(Protocol):
    """A source whose other side may also push the account's rows; a source need not be one."""

    async def push_jobs(self) -> Sequence[Mapping[str, Any]]:
        """Return the jobs that push, with the keys of Cloudflare's API; called by ``check --live``.

        Raises ``NeedsOperatorError`` if the credential may not read them, or ``TransientError``.
        """
        ...


# Pushes: the other side sends, and repeats what it got no answer to.


@dataclass(frozen=True, slots=True)
class PushedPart:
    """A part of what was pushed, small enough for one transaction: stored whole or not at all.

    ``name`` is the same when the same part comes again; then nothing is stored. ``twins`` are the
    indices of records that nothing but their hash tells apart: they are stored although they were
    seen. ``lost`` goes to the gap ledger.
    """

    key: StreamKey
    name: str
    records: Records
    twins: Collection[int] = ()
    malformed: int = 0
    lost: Sequence[Lost] = ()


class Intake(Protocol):
    """Where a push source puts what it receives; the runtime leads it to the journal."""

    def account(self, name: str) -> tuple[str, str] | None:
        """Return id and label of the account with this id or label; None if there is none."""
        ...

    def elsewhere(self, account_id: str) -> str:
        """Return the base URL of the replica that takes an account's pushes.

        Empty if this one does, or nobody at present: ``admit`` says which.
        """
        ...

    def here(self) -> str:
        """Return the base URL that ``elsewhere`` gives to the other replicas for this one."""
        ...

    async def admit(self, account_id: str) -> None:
        """Return if rows of an account can be stored now; called before anything is read.

        Raises ``NotTakingError`` while the journal is full, cannot be written, or is with another
        replica.
        """
        ...

    async def streams(self, account_id: str) -> Collection[str]:
        """Return the streams of an account of which something was stored; raises as ``admit``."""
        ...

    async def store(self, part: PushedPart) -> bool:
        """Store a part; durable on return. Return False if it had been stored before.

        Raises ``TransientError``: nothing of it was stored.
        """
        ...
