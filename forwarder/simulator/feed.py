"""One stream of one account: its rows, the traffic that keeps arriving, the oracle.

Everything that depends on time (live rows, visibility, retention, the quota, the `Date` header)
reads one clock. So a test can move all of it at once, and the simulated server's clock may differ
from the machine's.
"""

from __future__ import annotations

import json
import re
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import orjson

from forwarder.simulator.faults import ARRIVING, DISTINCT_KEY, TIME_KEY, Fault, FaultScript, Target
from forwarder.simulator.rows import (
    Positions,
    RowStore,
    TimedRow,
    format_moment,
    microseconds,
    parse_moment,
)


class Clock(Protocol):
    """The simulated server's time."""

    def now(self) -> float:
        """Return seconds since the Unix epoch."""


class SystemClock:
    """The machine's clock, shifted by `offset` seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset

    def now(self) -> float:
        """Return the machine's time plus the offset."""
        return time.time() + self._offset


class ManualClock:
    """A clock that moves only when a test moves it."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        """Return the time it was set to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds`, which may be negative."""
        self._now += seconds


@dataclass(frozen=True, slots=True)
class Sighting:
    """One row instance that was put into an answer which was sent."""

    number: int
    body: bytes
    """As it was when first shown."""
    first_shown: float
    """Epoch seconds."""


class Oracle:
    """What a stream has shown: the truth that a client's output is compared with.

    For each instance it keeps when it was first shown and which keys it had then.
    """

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._generations = bytearray()  # 0: not shown; n: first shown with n - 1 keys gained
        self._first_shown = array("d")
        self._most_alike: dict[bytes, int] = {}
        self.shown = 0
        """How many instances were shown."""

    def note(self, numbers: Sequence[int], now: float) -> None:
        """Note that one answer with these instances was sent in full at `now` (epoch seconds)."""
        self._grow()
        # One byte for each row of a long history; no test adds 254 keys.
        mark = min(self._store.generation, 254) + 1
        for number in numbers:
            if not self._generations[number]:
                self._generations[number] = mark
                self._first_shown[number] = now
                self.shown += 1
        self._note_twins(numbers)

    def sightings(self) -> Iterator[Sighting]:
        """Yield every instance that was shown, in the order of adding."""
        for number, mark in enumerate(self._generations):
            if mark:
                body = self._store.body(number, mark - 1)
                yield Sighting(number, body, self._first_shown[number])

    def expected(self) -> Iterator[Sighting]:
        """Yield what a client must hold that can tell identical rows apart only within one answer.

        Of identical instances, these are as many as the fullest answer held, earliest shown first.
        """
        left = Counter[bytes]()
        # A client that drops repeated rows keeps the first one it sees.
        for sighting in sorted(self.sightings(), key=lambda seen: (seen.first_shown, seen.number)):
            original = self._store.bodies[sighting.number]
            if left[original] < self._most_alike.get(original, 1):
                left[original] += 1
                yield sighting

    def last_shown(self, count: int) -> list[int]:
        """Return the numbers of the `count` newest instances that were shown and still exist."""
        numbers = range(len(self._generations) - 1, -1, -1)
        shown = (n for n in numbers if self._generations[n] and not self._store.is_hidden(n))
        return list(islice(shown, count))

    def _note_twins(self, numbers: Sequence[int]) -> None:
        bodies = [self._store.bodies[number] for number in numbers]
        if len(set(bodies)) == len(bodies):
            return
        for body, count in Counter(bodies).items():
            if count > 1:
                self._most_alike[body] = max(count, self._most_alike.get(body, 1))

    def _grow(self) -> None:
        missing = len(self._store) - len(self._generations)
        self._generations.extend(bytes(missing))
        self._first_shown.extend([0.0] * missing)


DEPTH = 1500
"""Nesting that orjson refuses; its limit is 1024."""

VARIANTS: dict[str, bytes] = {
    "lone_surrogate": b'"\\ud800lone"',
    "bad_utf8": b'"caf\xe9"',
    "huge_number": b"1e400",
    "deep": b"[" * DEPTH + b"]" * DEPTH,
}


def unreadable_row(variant: str, row: dict[str, Any]) -> bytes:
    """Return `row` with one more key whose value orjson cannot read.

    Raises:
        ValueError: there is no such variant.

    """
    if variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise ValueError(f"no unreadable value is called {variant!r}; there are {known}")
    return orjson.dumps(row)[:-1] + b',"purpose":' + VARIANTS[variant] + b"}"


def read_row(body: bytes) -> dict[str, Any]:
    """Return a row as an object, read as leniently as possible.

    Values that only a lenient reader accepts are kept (a lone surrogate, infinity). A row that
    cannot be read at all becomes `{"unreadable": its text, invalid UTF-8 escaped}`.
    """
    try:
        row = orjson.loads(body)
    except orjson.JSONDecodeError:
        row = _read_leniently(body)
    return row if isinstance(row, dict) else {"unreadable": body.decode(errors="backslashreplace")}


def _read_leniently(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


Traffic = Callable[[int], Sequence[TimedRow]]
"""The generated rows of one whole epoch second."""


Dated = Callable[[Mapping[str, Any], str, int], dict[str, Any]]
"""From (template, time, number) to a row that is like no other."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of row instances, and how many instances the window holds if that was counted."""

    numbers: tuple[int, ...]
    page: int
    size: int
    total: int = 0


class Feed:
    """A stream that a client can tail.

    Call `advance(now)` before you read rows: it generates the rows of the time since the last call
    and reveals those that are due.
    """

    def __init__(
        self,
        account: str,
        stream: str,
        traffic: Traffic,
        template: Mapping[str, Any],
        *,
        retention: float,
        since: float,
        dated: Dated | None = None,
    ) -> None:
        self.account = account
        self.stream = stream
        self.store = RowStore()
        self.oracle = Oracle(self.store)
        self.last_page: Page | None = None
        """The page that was sent in full last."""
        self._traffic = traffic
        self._template = template
        self._dated = dated or self._with_keys
        self._retention_us = microseconds(retention)
        self._next_second = int(since)
        self._now = since
        self._floor_us = 0

    def advance(self, now: float, faults: FaultScript) -> None:
        """Generate and reveal the rows up to `now` (epoch seconds)."""
        self._now = now
        # Matching faults against each generated row is slow: skip it while none is meant for rows.
        disturbed = faults.any_of(ARRIVING)
        while self._next_second <= now:
            for time_us, row in self._traffic(self._next_second):
                self._arrive(time_us, row, faults if disturbed else None)
            self._next_second += 1
        # Never back: a row that retention took is gone, whatever the clock does.
        self._floor_us = max(self._floor_us, microseconds(now) - self._retention_us)
        self.store.reveal(now)

    def add(self, row: Mapping[str, Any] | bytes, visible_at: float | None = None) -> int:
        """Add one instance of a row and return its number; bytes are served verbatim.

        The row has the time that it states, or the present if it states no valid time. It is
        visible at once, or from `visible_at` on (epoch seconds).
        """
        body = row if isinstance(row, bytes) else _serialised(row)
        time_us = self._stated_time(body)
        known = read_row(body)
        # Kept apart, so that a query by provider need not parse the rows.
        tag = known.get("idp_id")
        return self.store.add(
            body, time_us, tag=tag if isinstance(tag, str) else "", visible_at=visible_at
        )

    def amend(self, number: int, changes: Mapping[str, Any]) -> int:
        """Replace an instance by a new version, and return the number of that version.

        For a client, that is another row: the oracle counts both versions if both were shown.

        Raises:
            ValueError: the instance was replaced already.

        """
        if self.store.is_hidden(number):
            raise ValueError(f"instance {number} was replaced; amend its newest version")
        row = read_row(self.store.bodies[number])
        self.store.hide(number)
        return self.add({**row, **changes})

    def window(
        self, since_us: int | None, until_us: int | None, *, inclusive_since: bool = True
    ) -> Positions:
        """Return the places of the visible rows of a window that retention still keeps."""
        asked = self.store.between(since_us, until_us, inclusive_since=inclusive_since)
        kept = self.store.between(self._floor_us, None)
        return range(max(asked.start, kept.start), max(asked.stop, kept.start))

    def sent(self, page: Page, now: float) -> None:
        """Note that an answer with this page was sent in full at `now` (epoch seconds)."""
        self.oracle.note(page.numbers, now)
        self.last_page = page

    def rewrite(self, fault: Fault) -> None:
        """Change the stored rows as a rewriting fault says."""
        match fault.kind:
            case "expire":
                floor_us = microseconds(self._now - fault.seconds)
                self._floor_us = max(self._floor_us, floor_us)
            case "new_key":
                self.store.add_key(fault.key, fault.value)
            case "amend":
                for number in self.oracle.last_shown(fault.count):
                    self.amend(number, {fault.key: fault.value})
            case "burst":
                for _ in range(fault.count):
                    self.add(self._sample())
            case "unreadable":
                for _ in range(fault.count):
                    self.add(unreadable_row(str(fault.value or "lone_surrogate"), self._sample()))

    def _sample(self) -> dict[str, Any]:
        present_us = int(self._now) * 1_000_000
        return self._dated(self._template, format_moment(present_us, digits=0), len(self.store))

    def _with_keys(self, template: Mapping[str, Any], time: str, number: int) -> dict[str, Any]:
        # Without the second key the rows of a burst would be twins.
        distinct = {DISTINCT_KEY[self.stream]: f"{number:016x}"}
        return {**template, TIME_KEY[self.stream]: time, **distinct}

    def _arrive(self, time_us: int, row: dict[str, Any], faults: FaultScript | None) -> None:
        copies, visible_at = 1, time_us / 1_000_000
        if faults is not None:
            for fault in faults.all(Target(self.stream, self.account), ARRIVING):
                if fault.kind == "twins":
                    copies = fault.count
                else:
                    visible_at += fault.seconds
        body = orjson.dumps(row)
        waits = visible_at if visible_at > self._now else None
        for _ in range(copies):
            self.store.add(body, time_us, tag=row.get("idp_id", ""), visible_at=waits)

    def _stated_time(self, body: bytes) -> int:
        # By pattern, not by parsing: the row may be one that no parser accepts.
        key = TIME_KEY[self.stream].encode()
        stated = re.search(b'"' + key + rb'"\s*:\s*"([^"]*)"', body)
        if stated is None:
            return microseconds(self._now)
        try:
            return parse_moment(stated[1].decode())
        except ValueError:
            return microseconds(self._now)


def _serialised(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(row), option=orjson.OPT_SORT_KEYS)
