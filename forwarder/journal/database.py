"""SQLite: the lock of its folder, its sessions, and its errors in our words.

Only this module and ``schema`` know which engine keeps the journal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path

import orjson

from forwarder.core.errors import (
    ConfigError,
    DamagedError,
    Fault,
    LockedError,
    StateError,
    TransientError,
)
from forwarder.core.timing import format_seconds
from forwarder.journal.storage import CorruptError, Rows, Session

FILE_NAME = "journal.db"
REMEDY = (
    "restore the file from a backup, or move the folder away and start empty (rows still within "
    "Cloudflare's retention are read again, with the same ids)"
)
_WAL_LIMIT = 64 * 2**20
_CACHE = "PRAGMA cache_size = -1024"  # KiB a connection; filled within minutes, so memory is level
_PASSING = ("disk is full", "disk I/O error", "database is locked", "readonly", "unable to open")
_OF_THE_SETTINGS = {
    errno.EACCES,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
}
"""Trying again does not help: the path is wrong, or belongs to somebody else."""


@contextmanager
def closed_on_error(opened: SqliteSession | sqlite3.Connection) -> Iterator[None]:
    """Close what was opened if it cannot be made ready for use."""
    try:
        yield
    except BaseException:
        opened.close()
        raise


class StateLock:
    """An advisory lock on ``state_dir/lock``; the kernel releases it when the process dies."""

    def __init__(self, state_dir: Path, now_us: int) -> None:
        """Create the folder (0700) if it is missing and take the lock.

        Raises ``LockedError`` with the holder, ``ConfigError`` when the settings name a folder
        that this user cannot have, ``StateError`` when the disk is at fault.
        """
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(state_dir, error) from error
        try:
            # flock, not a file with a process id: the kernel releases it however the process ends.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 4096)
            os.close(self._descriptor)
            raise LockedError(
                f"state_dir {state_dir} is in use by {_describe(holder)}; "
                "stop that process or choose another state_dir"
            ) from error
        holder = orjson.dumps(
            {"pid": os.getpid(), "host": socket.gethostname(), "since": format_seconds(now_us)}
        )
        # Only for the message to whoever comes second; the lock itself is the kernel's. A replica
        # of a shared journal needs no space here: a full disk must not keep it from work.
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, holder, 0)

    def release(self) -> None:
        """Give the folder back; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _unusable(state_dir: Path, error: OSError) -> ConfigError | StateError:
    problem = f"{state_dir} cannot be used: {error.strerror}"
    if error.errno in _OF_THE_SETTINGS:
        hint = "it must be a folder that this user may write"
        return ConfigError([Fault("state_dir", problem, hint)])
    return StateError(f"state_dir {problem}; free space on the volume or repair it")


def _describe(holder: bytes) -> str:
    try:
        known = orjson.loads(holder)
        return f"process {known['pid']} on {known['host']} since {known['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


class SqliteSession:
    """A connection as a ``Session``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take over a connection in autocommit mode."""
        self.connection = connection
        # An attribute, not a method around it: it is called for every statement.
        self.execute: Callable[..., Rows] = connection.execute

    def begin(self) -> None:
        """Take the write lock at once: a reader that turned writer could fail half-way."""
        self.connection.execute("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        """Begin a transaction that sees one state of the file."""
        self.connection.execute("BEGIN")

    def commit(self) -> None:
        """Write the transaction to the log and sync it."""
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if one is open."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        """Return True while a transaction is open: a full disk may end it."""
        return self.connection.in_transaction

    @property
    def changes(self) -> int:
        """Return how many rows were written since the connection was opened."""
        return self.connection.total_changes

    @property
    def ended(self) -> None:
        """Return None: a disk that failed may take writes again."""
        return

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class SqliteEngine:
    """The journal's file in a state folder."""

    def __init__(self, state_dir: Path) -> None:
        """Open nothing yet."""
        self.path = state_dir / FILE_NAME

    def writing(self) -> SqliteSession:
        """Open the file for the one writer, creating it if it is missing.

        Raises ``DamagedError``, ``StateError`` or ``TransientError``.
        """
        with self.translated():
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            with closed_on_error(connection):
                # Rows hold e-mail addresses and IP addresses; the umask is not ours to trust.
                self.path.chmod(0o600)
                connection.execute("PRAGMA journal_mode = WAL")
                # In WAL mode NORMAL may lose the last commits in a power cut, and with them rows
                # that Cloudflare shows only once in the retention.
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
                connection.execute(_CACHE)
        return SqliteSession(connection)

    def reading(self) -> SqliteSession:
        """Open the file read-only, beside a running daemon or without one.

        Raises ``StateError`` when there is none.
        """
        # mode=ro would say "unable to open", which sounds like a broken disk.
        if not self.path.exists():
            raise StateError(
                f"{self.path} does not exist; has `forwarder run` been started with these settings?"
            )
        with self.translated():
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            with closed_on_error(connection):
                connection.execute(_CACHE)
        return SqliteSession(connection)

    def size(self, _: Session) -> int:
        """Return the bytes on disk of the file and of the write-ahead log beside it."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return self.path.stat().st_size + (log.stat().st_size if log.exists() else 0)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn SQLite's exceptions into ours: what passes is transient, damage is said plainly."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # a mistake of this program's, which says nothing about the file
        except sqlite3.Error as error:
            # Codes do not tell a full disk from a broken one in every version of SQLite.
            text = str(error)
            if any(words in text for words in _PASSING):
                raise TransientError(
                    f"the journal cannot be written or read: {text} ({self.path})",
                    hint="free disk space or repair the volume; nothing is lost, it is retried",
                ) from error
            raise DamagedError(self.damage(text)) from error
        except CorruptError as error:
            raise DamagedError(self.damage(str(error))) from error
        except (JSONDecodeError, UnicodeDecodeError) as error:
            raise DamagedError(self.damage(f"a stored value cannot be read: {error}")) from error

    def damage(self, what: str) -> str:
        """Return the sentence for a damaged journal: the file, what is damaged, what to do."""
        return (
            f"the journal {self.path} is damaged: {what}. Nothing was changed or deleted. "
            f"`forwarder check --journal` lists all damage; {REMEDY}"
        )
