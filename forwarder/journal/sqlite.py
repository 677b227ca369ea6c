"""The journal on a file: who opens it has the lock, and nobody has it unless it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Self

from forwarder.core.journal import Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal.database import SqliteEngine, SqliteSession, StateLock
from forwarder.journal.journal import SqlJournal, SqlJournalView
from forwarder.journal.reader import JournalReader
from forwarder.journal.schema import prepare, require
from forwarder.journal.storage import Session
from forwarder.journal.writer import PATIENCE

Wrap = Callable[[Session], Session]


def _as_it_is(session: Session) -> Session:
    return session


class SqliteJournal(SqlJournal):
    """Owns a journal's file in a state folder."""

    def __init__(
        self,
        engine: SqliteEngine,
        session: Session,
        lock: StateLock,
        keeping: Keeping,
        clock: Clock,
        emit: Emit,
        *,
        patience: float,
    ) -> None:
        """Use ``open``."""
        super().__init__(engine, session, keeping, clock, emit, patience=patience)
        self.path = engine.path
        self._lock = lock

    @classmethod
    async def open(
        cls,
        state_dir: Path,
        keeping: Keeping,
        *,
        clock: Clock,
        emit: Emit,
        patience: float = PATIENCE,
        wrap: Wrap = _as_it_is,
    ) -> Self:
        """Take the lock, open, create or upgrade the file, check that it is whole.

        ``patience`` is how long an acknowledgement waits for company, in seconds; ``wrap`` puts
        something around the writing session (tests let it fail). Raises ``ConfigError``,
        ``LockedError``, ``DamagedError``, ``StateError`` or ``TransientError``; nothing was changed
        then.
        """
        # The lock first: nobody may even look at the schema while another process changes it.
        lock = StateLock(state_dir, clock.now_us())
        engine = SqliteEngine(state_dir)
        try:
            session = await asyncio.to_thread(_open_whole, engine, clock.now_us())
        except BaseException:
            lock.release()
            raise
        opened = cls(engine, wrap(session), lock, keeping, clock, emit, patience=patience)
        return await opened.begin()

    async def aclose(self) -> None:
        """Finish writing, close the file, give the folder back; idempotent."""
        await super().aclose()
        self._lock.release()


def open_view(state_dir: Path) -> SqlJournalView:
    """Open the journal of a state folder for reading, whether a daemon runs or not.

    Raises ``StateError`` for no journal or one of another version, ``DamagedError``.
    """
    engine = SqliteEngine(state_dir)
    session = engine.reading()
    try:
        require(session, engine)
    finally:
        session.close()
    return SqlJournalView(JournalReader(engine))


def _open_whole(engine: SqliteEngine, now_us: int) -> SqliteSession:
    """Open the file for writing, and let nobody have it unless it is whole."""
    session = engine.writing()
    try:
        prepare(session, engine, now_us)
    except BaseException:
        session.close()
        raise
    return session
