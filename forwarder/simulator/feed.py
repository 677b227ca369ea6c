"""One stream of one account: its rows, the traffic that keeps arriving, what was shown of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from forwarder.simulator.faults import ARRIVING, Fault, FaultScript, Target
from forwarder.simulator.logins import TimedRow
from forwarder.simulator.moments import format_moment, microseconds, parse_moment
from forwarder.simulator.names import DISTINCT_KEY, TIME_KEY
from forwarder.simulator.oracle import Oracle
from forwarder.simulator.rows import Positions, RowStore
from forwarder.simulator.unreadable import read_row, unreadable_row

Traffic = Callable[[int], list[TimedRow]]
"""The generated rows of one whole epoch second."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of row instances, and how many the window holds if that was counted."""

    numbers: tuple[int, ...]
    page: int
    size: int
    total: int = 0


class Feed:
    """A stream that a client can tail.

    Call `advance(now)` before looking at the rows: it generates what happened since, and reveals
    what has become visible.
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
    ) -> None:
        self.account = account
        self.stream = stream
        self.store = RowStore()
        self.oracle = Oracle(self.store)
        self.last_page: Page | None = None
        """The page that was sent last."""
        self._traffic = traffic
        self._template = template
        self._retention_us = microseconds(retention)
        self._next_second = int(since)
        self._now = since
        self._floor_us = 0

    def advance(self, now: float, faults: FaultScript) -> None:
        """Let everything happen that happens until `now` (epoch seconds)."""
        self._now = now
        disturbed = faults.any_of(ARRIVING)
        while self._next_second <= now:
            for time_us, row in self._traffic(self._next_second):
                self._arrive(time_us, row, faults if disturbed else None)
            self._next_second += 1
        self._floor_us = max(self._floor_us, microseconds(now) - self._retention_us)
        self.store.reveal(now)

    def add(self, row: Mapping[str, Any] | bytes, visible_at: float | None = None) -> int:
        """Add one instance of a row and return its number; bytes are served as they are.

        It lies at the time it states, or at the present if it states none that can be read, and is
        visible at once unless `visible_at` (epoch seconds) says later.
        """
        body = row if isinstance(row, bytes) else _serialised(row)
        time_us = self._stated_time(body)
        known = read_row(body)
        tag = known.get("idp_id")
        return self.store.add(
            body, time_us, tag=tag if isinstance(tag, str) else "", visible_at=visible_at
        )

    def amend(self, number: int, changes: Mapping[str, Any]) -> int:
        """Replace an instance by one with other values, from the next answer on; return its number.

        For a client that is another row: the oracle counts both versions if both were shown.

        Raises:
            ValueError: the instance has been replaced already.

        """
        if self.store.is_hidden(number):
            raise ValueError(f"instance {number} has been replaced; amend its newest version")
        row = read_row(self.store.bodies[number])
        self.store.hide(number)
        return self.add({**row, **changes})

    def window(
        self, since_us: int | None, until_us: int | None, *, inclusive_since: bool = True
    ) -> Positions:
        """Return the places of the rows that are shown for a window: what retention still keeps."""
        asked = self.store.between(since_us, until_us, inclusive_since=inclusive_since)
        kept = self.store.between(self._floor_us, None)
        return range(max(asked.start, kept.start), max(asked.stop, kept.start))

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
        return {
            **self._template,
            TIME_KEY[self.stream]: format_moment(present_us, digits=0),
            DISTINCT_KEY[self.stream]: f"{len(self.store):016x}",
        }

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
