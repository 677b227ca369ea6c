"""The journal on a file: who opens it has the lock, and nobody has it unless it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from forwarder.core.errors import StateError
from forwarder.core.journal import Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal.database import SqliteEngine, SqliteSession, StateLock, closed_on_error
from forwarder.journal.journal import SqlJournal, SqlJournalView
from forwarder.journal.reader import JournalReader
from forwarder.journal.schema import check_quickly, prepare, require
from forwarder.journal.storage import Session
from forwarder.journal.writer import PATIENCE

Wrap = Callable[[Session], Session]
_MOVED = ".moved-"


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
            _refuse_moved(engine)
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
    with closed_on_error(session):
        prepare(session, engine, now_us)
    return session


class StoppedFile:
    """A journal's file that this process has locked; implements ``copying.Stopped``."""

    def __init__(self, engine: SqliteEngine, session: SqliteSession) -> None:
        """Begin a transaction of ``session``."""
        self.name = str(engine.path)
        self.engine = engine
        self.session = session
        with engine.translated():
            session.begin()

    def stay(self) -> None:
        """Do nothing: the lock lasts as long as the process."""

    def settle(self) -> None:
        """Commit: SQLite's ids follow the highest."""
        self.session.commit()

    def put_aside(self, at: str) -> str:
        """Rename the file; the folder then refuses to begin another journal."""
        # With the last connection, the write-ahead log is folded into the file.
        self.session.rollback()
        self.session.close()
        aside = self.engine.path.with_name(f"{self.engine.path.name}{_MOVED}{at}")
        self.engine.path.rename(aside)
        return str(aside)


@contextmanager
def stopped(state_dir: Path, now_us: int, *, new: bool) -> Iterator[StoppedFile]:
    """Hold a journal's file to copy it, or with ``new`` to fill it.

    Raises ``LockedError`` while a process works on it, ``ConfigError``, ``StateError``,
    ``DamagedError``.
    """
    engine = SqliteEngine(state_dir)
    if not new:
        engine.reading().close()  # raises if there is none, before a folder is made for it
    lock = StateLock(state_dir, now_us)
    try:
        session = engine.writing()
        try:
            if new:
                prepare(session, engine, now_us)
            else:
                require(session, engine)
                with engine.translated():
                    check_quickly(session)
            yield StoppedFile(engine, session)
        finally:
            session.close()
    finally:
        lock.release()


def _refuse_moved(engine: SqliteEngine) -> None:
    """Raise ``StateError`` if the folder had a journal that was copied elsewhere."""
    if engine.path.exists():
        return
    for moved in engine.path.parent.glob(f"{engine.path.name}{_MOVED}*"):
        raise StateError(
            f"the journal of this folder was copied elsewhere and is now {moved}. Use the settings "
            "that it was copied to; to begin a new journal in this folder, move that file away"
        )
