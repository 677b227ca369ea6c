"""A journal in plain dicts: what must be true of a real one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from forwarder.core.contracts import LIVE, Record, StreamKey
from forwarder.core.identity import Identifier
from forwarder.core.journal import Fate
from forwarder.core.log import ReaderState
from forwarder.testing.journal_crash import HOUR_US, NOON_US

KEY = StreamKey("a" * 32, "access_requests")
KEEP_US = HOUR_US
MOST_LETTERS = 2
"""So few dead letters that expected refusals leave after a few steps."""
# A row may be in several lanes and have a fate in each: an audit says the first of these.
_ORDER: tuple[Fate, ...] = ("dead", "delivered", "waiting", "skipped", "missing")
EVERYTHING = 10**9
BEFORE, DISCARDED, REPLAYED = "before", "discarded", "replayed"
DROPPED, REMOVED, CANCELLED = "dropped_oldest", "sink_was_removed", "lane_cancelled"
REPLAY_DROPPED, EXPECTED = "replay_dropped", "expected_refusals"
LOSSES = (DROPPED, REMOVED, CANCELLED, REPLAY_DROPPED, EXPECTED)
RECEIVED = frozenset({"done", "dead", DISCARDED, REPLAYED, EXPECTED})
"""Fates of what was shown to a sink's destination."""
_DAY_US = 24 * HOUR_US
_AUDITED_US = 26 * HOUR_US


@dataclass
class Stored:
    """One stored row of a lane that has pages."""

    identity: bytes
    time_us: int | None
    seen_us: int
    kept: bool = True
    own: bool = False


@dataclass
class ModelLane:
    """A lane: what kind, whose pages, and whether it is over."""

    kind: str
    pages_of: str
    partial: bool = False
    growing: bool = True
    stopped: bool = False
    cancelled: bool = False


@dataclass
class ModelSink:
    """A sink the journal knows."""

    joined: int
    blocking: bool
    running: bool = True


@dataclass
class ModelLetter:
    """A dead letter; the lower its number, the longer it is one."""

    number: int
    expected: bool


@dataclass
class Model:
    """What must be true of the journal, in plain dicts."""

    end: int = 1
    stored: dict[str, dict[int, Stored]] = field(default_factory=lambda: {LIVE: {}})
    lanes: dict[str, ModelLane] = field(default_factory=lambda: {LIVE: ModelLane("live", LIVE)})
    sinks: dict[str, ModelSink] = field(default_factory=dict)
    units: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)
    letters: dict[str, dict[int, ModelLetter]] = field(default_factory=lambda: defaultdict(dict))
    travelling: dict[str, dict[int, ModelLetter]] = field(default_factory=lambda: defaultdict(dict))
    died: int = 0
    gaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    readers: dict[str, ReaderState] = field(default_factory=dict)
    key_sets: set[frozenset[str]] = field(default_factory=set)
    old: set[tuple[str, int]] = field(default_factory=set)
    """Places of rows whose identities may be gone: nobody reads or audits their time any more."""

    def waiting(self, sink: str, lane: str) -> list[int]:
        """Return the offsets that a sink still waits for in a lane."""
        return sorted(o for o, fate in self.units.get((sink, lane), {}).items() if fate == "wait")

    def known(self, lane: str, *, old: bool) -> set[bytes]:
        """Return the identities that count as seen for a lane, with or without the old ones."""
        return {
            row.identity
            for name, rows in self.stored.items()
            # What only some sinks got must not count as seen: the others would never get it.
            if name == lane or not self.lanes[name].partial
            for offset, row in rows.items()
            if old or (name, offset) not in self.old
        }

    def refuse(self, sink: str, lane: str, refused: Mapping[int, bool]) -> None:
        """Make dead letters of offsets (True: expected); the oldest expected ones make room."""
        for offset, expected in sorted(refused.items()):
            self.units[sink, lane][offset] = "dead"
            known = self.travelling[sink].pop(offset, None) or self.letters[sink].get(offset)
            if known is None:
                self.died += 1
                self.letters[sink][offset] = ModelLetter(self.died, expected)
            elif self.lanes[lane].kind == "letters":
                self.letters[sink][offset] = ModelLetter(known.number, expected)
        letters = self.letters[sink]
        leaving = sorted((one.number, o) for o, one in letters.items() if one.expected)
        excess = max(0, len(letters) - MOST_LETTERS) if refused else 0
        for _, offset in leaving[:excess]:
            self.settle_letter(sink, offset, EXPECTED)
            self.gaps[sink, EXPECTED] += 1

    def settle_letter(self, sink: str, offset: int, reason: str) -> ModelLetter:
        """Take a dead letter away; each lane that refused its row has this word for it."""
        for (name, _), units in self.units.items():
            if name == sink and units.get(offset) == "dead":
                units[offset] = reason
        return self.letters[sink].pop(offset)

    def give_back(self, sink: str, lane: str, offset: int) -> None:
        """Make a replayed letter a dead letter again."""
        self.letters[sink][offset] = self.travelling[sink].pop(offset)
        self.units[sink, lane][offset] = "dead"

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
        """Return up to when every reader of all rows may have read."""
        found = []
        for name, one in self.readers.items():
            if name == LIVE or name.startswith("reconcile:"):
                until_us = one.window.until_us if one.window else one.covered_until_us
                reached_us = until_us if one.reached_us is None else one.reached_us
                found.append(max(one.covered_until_us, reached_us))
        return min(found, default=None)

    def grow_old(self, now_us: int) -> None:
        """Note whose identities may go: emptied, behind every reader, and past a day's audit."""
        covered = [one.covered_until_us for one in self.readers.values()]
        reread = [min(covered) - 2 * HOUR_US, max(covered) - _AUDITED_US] if covered else [0]
        bound = min(*reread, now_us - KEEP_US)
        for lane, rows in self.stored.items():
            for offset, row in rows.items():
                time_us = row.seen_us + 2 * _DAY_US if row.time_us is None else row.time_us
                own = row.own and row.seen_us < now_us - 2 * _DAY_US
                if not row.kept and (own or time_us < bound):
                    self.old.add((lane, offset))

    def fate(self, sink: str, record: Record) -> Fate | None:
        """Return what an audit must say of a row; None if it need not know."""
        found: list[Fate] = []
        names = {record.identity, *ALIASES.get(record.identity, ())}
        for lane, rows in self.stored.items():
            for offset, row in rows.items():
                if row.identity in names:
                    if (lane, offset) in self.old:
                        return None
                    found += self._fates(sink, lane, offset)
        if not found and self.old:
            return None
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


def _rows_of_pool() -> tuple[list[Record], dict[bytes, list[bytes]]]:
    """Return distinct rows (ties, late ones, future ones, timeless ones), twins, rows that grew."""
    made = Identifier(KEY.account_id, KEY.stream)
    times = dict(enumerate(None if at is None else NOON_US + at for at in _TIMES))
    records = [_record({"n": n}, at, made.identity({"n": n})) for n, at in times.items()]
    aliases = {}
    for n in (1, 8):
        records.append(_record({"n": n}, times[n], made.identity({"n": n}, 1)))
        grown = {"n": n, "more": n}
        records.append(_record(grown, times[n], made.identity(grown)))
        aliases[records[-1].identity] = [records[n].identity]
    return records, aliases


def _record(row: Mapping[str, int], time_us: int | None, identity: bytes) -> Record:
    return Record(orjson.dumps(row), time_us, identity, frozenset(row))


POOL, ALIASES = _rows_of_pool()
"""The rows of the machine's world; what a row may have been stored as before it had more keys."""
