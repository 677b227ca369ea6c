"""What lets a journal die at any statement, and opens it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from forwarder.core.errors import TransientError
from forwarder.core.journal import Journal, Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.testing.clock import FakeClock

T = TypeVar("T")
HOUR_US = 3_600_000_000
NOON_US = 1_790_000_000_000_000 // HOUR_US * HOUR_US


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
