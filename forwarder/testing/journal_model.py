"""A journal in plain dicts, and what lets a real one crash at any statement."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import orjson

from forwarder.core.contracts import LIVE, Record, StreamKey
from forwarder.core.errors import TransientError
from forwarder.core.identity import Identifier
from forwarder.core.journal import Fate, Journal, Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.testing.clock import FakeClock

T = TypeVar("T")
KEY = StreamKey("a" * 32, "access_requests")
HOUR_US = 3_600_000_000
NOON_US = 1_790_000_000_000_000 // HOUR_US * HOUR_US
KEEP_US = HOUR_US
# A row may be in several lanes and have a fate in each: an audit says the first of these.
_ORDER: tuple[Fate, ...] = ("dead", "delivered", "waiting", "skipped", "missing")
EVERYTHING = 10**9
BEFORE, DISCARDED, REPLAYED = "before", "discarded", "replayed"
DROPPED, REMOVED, CANCELLED = "dropped_oldest", "sink_was_removed", "lane_cancelled"
REPLAY_DROPPED = "replay_dropped"
LOSSES = (DROPPED, REMOVED, CANCELLED, REPLAY_DROPPED)


class Opener(Protocol):
    """Opens one and the same journal again and again, from its engine's storage."""

    async def open(
        self, keeping: Keeping, *, clock: Clock, emit: Emit, wrap: Callable[[Any], Any]
    ) -> Journal:
        """Open the journal; ``wrap`` goes around the session that writes."""
        ...

    def discard(self) -> None:
        """Remove the storage."""
        ...


class CrashError(TransientError):
    """The process dies here."""


class Crash:
    """Lets the n-th statement of the next operation fail, before or after it took effect."""

    def __init__(self) -> None:
        """Let nothing fail."""
        self._left = 0
        self._late = False
        self.fired = False
        self.committed = False

    def arm(self, statement: int, *, late: bool) -> None:
        """Fail at this statement, counted from 1."""
        self._left, self._late, self.fired, self.committed = statement, late, False, False

    def disarm(self) -> None:
        """Let nothing fail any more."""
        self._left = 0

    def around(self, work: Callable[[], T], *, commits: bool = False) -> T:
        """Do the work of one statement, or die."""
        self._left -= 1
        if self._left != 0:
            return work()
        self.fired = True
        if self._late:
            work()
            # Whatever ran before the commit is rolled back, even a statement that took effect.
            self.committed = commits
        raise CrashError("the process dies here")


class CrashingSession:
    """A session around another one; see ``Crash``."""

    def __init__(self, session: Any, crash: Crash) -> None:
        """Hand everything on to ``session``."""
        self._session = session
        self._crash = crash

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Run a statement, or die."""
        return self._crash.around(lambda: self._session.execute(sql, values))

    def begin(self) -> None:
        """Begin, or die."""
        self._crash.around(self._session.begin)

    def commit(self) -> None:
        """Commit, or die before or after."""
        self._crash.around(self._session.commit, commits=True)

    def __getattr__(self, name: str) -> Any:
        """Hand the rest on."""
        return getattr(self._session, name)


class WallClock(FakeClock):
    """A clock whose wall is set by the machine."""

    def __init__(self) -> None:
        """Begin at noon."""
        super().__init__()
        self.wall_us = NOON_US

    def now_us(self) -> int:
        """Return the wall's time."""
        return self.wall_us


@dataclass
class Stored:
    """One stored row of a lane that has pages."""

    identity: bytes
    time_us: int | None
    seen_us: int
    kept: bool = True


@dataclass
class ModelLane:
    """A lane: what kind, whose pages, and whether it is over."""

    kind: str
    pages_of: str
    partial: bool = False
    growing: bool = True
    cancelled: bool = False


@dataclass
class ModelSink:
    """A sink the journal knows."""

    joined: int
    blocking: bool
    running: bool = True


@dataclass
class Model:
    """What must be true of the journal, in plain dicts."""

    end: int = 1
    stored: dict[str, dict[int, Stored]] = field(default_factory=lambda: {LIVE: {}})
    lanes: dict[str, ModelLane] = field(default_factory=lambda: {LIVE: ModelLane("live", LIVE)})
    sinks: dict[str, ModelSink] = field(default_factory=dict)
    units: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)
    letters: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    gaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    readers: dict[str, int] = field(default_factory=dict)

    def waiting(self, sink: str, lane: str) -> list[int]:
        """Return the offsets that a sink still waits for in a lane."""
        return sorted(o for o, fate in self.units.get((sink, lane), {}).items() if fate == "wait")

    def known(self, lane: str) -> set[bytes]:
        """Return the identities that count as seen for a lane."""
        return {
            row.identity
            for name, rows in self.stored.items()
            # What only some sinks got must not count as seen: the others would never get it.
            if name == lane or not self.lanes[name].partial
            for row in rows.values()
        }

    def lose(self, sink: str, lane: str, offset: int, reason: str) -> None:
        """Move a waiting unit to the lost ones."""
        self.units[sink, lane][offset] = reason
        self.gaps[sink, reason] += 1

    def owe(self, lane: str, offset: int) -> None:
        """Let every sink of a lane wait for a new row."""
        for (_, name), units in self.units.items():
            if name == lane:
                units[offset] = "wait"

    def read_by_all(self) -> int | None:
        """Return up to when every reader of all rows has read."""
        found = [
            at for name, at in self.readers.items() if name == LIVE or name.startswith("reconcile:")
        ]
        return min(found, default=None)

    def fate(self, sink: str, identity: bytes) -> Fate:
        """Return what an audit must say of a row."""
        found: list[Fate] = []
        for lane, rows in self.stored.items():
            for offset, row in rows.items():
                if row.identity == identity:
                    found += self._fates(sink, lane, offset)
        return min(found, key=_ORDER.index, default="missing")

    def _fates(self, sink: str, lane: str, offset: int) -> Iterable[Fate]:
        if offset in self.letters[sink]:
            return ["dead"]
        fates: list[Fate] = []
        for name, one in self.lanes.items():
            unit = self.units.get((sink, name), {}).get(offset)
            if one.pages_of == lane and unit is not None:
                fates.append(_SAID.get(unit, "missing"))
        if offset not in self.units.get((sink, lane), {}):
            fates.append("skipped" if offset < self.sinks[sink].joined else "missing")
        return fates


_SAID: dict[str, Fate] = {
    "wait": "waiting",
    "done": "delivered",
    "dead": "dead",
    DISCARDED: "skipped",
}
_TIMES = (0, 1, 1, 2, -3 * HOUR_US, 4 * HOUR_US, -60_000_000, -HOUR_US // 2, None, None)


def rows_of_pool(count: int = 14) -> list[Record]:
    """Return distinct rows: ties, late ones, future ones, timeless ones."""
    rows = [{"n": n} for n in range(count)]
    identities = Identifier(KEY.account_id, KEY.stream).identities(rows)
    records = []
    for n, (row, identity) in enumerate(zip(rows, identities, strict=True)):
        step = _TIMES[n % len(_TIMES)]
        time_us = None if step is None else NOON_US + step
        records.append(Record(orjson.dumps(row), time_us, identity, frozenset(row)))
    return records


POOL = rows_of_pool()
