"""A journal on a real file, and rows to put into it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import orjson
import pytest

from forwarder.core.contracts import LIVE, Record, StreamKey
from forwarder.core.identity import Identifier
from forwarder.core.journal import Keeping
from forwarder.core.log import Addition, ReaderState
from forwarder.core.telemetry import TelemetryEvent
from forwarder.core.timing import SystemClock
from forwarder.journal.database import SqliteEngine
from forwarder.journal.sqlite import SqliteJournal
from forwarder.journal.storage import Session

KEY = StreamKey("a" * 32, "access_requests")
T = TypeVar("T")
HOUR_US = 3_600_000_000
NOON_US = 1_790_000_000_000_000 // HOUR_US * HOUR_US
Opener = Callable[..., Awaitable[SqliteJournal]]


def beside(journal: SqliteJournal, operation: Callable[[Session], T]) -> T:
    """Run a writing function of the package on the file of an open journal."""
    session = SqliteEngine(journal.path.parent).writing()
    session.begin()
    try:
        result = operation(session)
        session.commit()
    finally:
        session.close()
    return result


class SetClock(SystemClock):
    """The real clock, but for the wall: that says what a test says."""

    def __init__(self) -> None:
        self.wall_us = NOON_US

    def now_us(self) -> int:
        return self.wall_us


def records(*times_us: int | None, first: int = 0) -> list[Record]:
    """Return one distinct row a time."""
    rows = [{"n": first + index, "at": time_us} for index, time_us in enumerate(times_us)]
    identities = Identifier(KEY.account_id, KEY.stream).identities(rows)
    return [
        Record(orjson.dumps(row), time_us, identity, frozenset(row))
        for row, time_us, identity in zip(rows, times_us, identities, strict=True)
    ]


def addition(rows: Sequence[Record], covered_us: int = NOON_US, reader: str = LIVE) -> Addition:
    return Addition(reader, ReaderState(covered_us), NOON_US, rows)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def events() -> list[TelemetryEvent]:
    return []


@pytest.fixture
async def opened(
    tmp_path: Path, clock: SetClock, events: list[TelemetryEvent]
) -> AsyncIterator[Opener]:
    journals: list[SqliteJournal] = []

    async def open_(max_size: int = 2**30, keep_us: int = HOUR_US) -> SqliteJournal:
        keeping = Keeping(max_size, keep_us)
        journal = await SqliteJournal.open(
            tmp_path / "state", keeping, clock=clock, emit=events.append
        )
        journals.append(journal)
        return journal

    yield open_
    for journal in journals:
        await journal.aclose()
