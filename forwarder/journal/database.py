"""The journal's file: its lock, its connections, its errors.

The state folder belongs to one process at a time.

Connections to the journal file: pragmas, schema, and SQLite's errors in our words.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
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
    return StateError(f"state_dir {problem}; free space on the volume or mend it")


def _describe(holder: bytes) -> str:
    try:
        known = orjson.loads(holder)
        return f"process {known['pid']} on {known['host']} since {known['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


SCHEMA_VERSION = 1
FILE_NAME = "journal.db"
_WAL_LIMIT = 64 * 2**20
_CACHE = "PRAGMA cache_size = -1024"  # KiB a connection; filled within minutes, so memory is level
REMEDY = (
    "restore the file from a backup, or move the folder away to start anew (rows still within "
    "Cloudflare's retention are read again, with the same ids)"
)
_PASSING = ("disk is full", "disk I/O error", "database is locked", "readonly", "unable to open")


class CorruptError(Exception):
    """What is stored is not what was written: says what and where in the file.

    Raised inside of this room only; ``translated`` makes ``DamagedError`` of it.
    """


def connect_writer(state_dir: Path) -> sqlite3.Connection:
    """Open the journal for the one writer, creating or migrating it as needed.

    Called once at start, in the writer's thread. Raises ``DamagedError`` or ``StateError``; an
    existing file is never replaced.
    """
    path = state_dir / FILE_NAME
    with translated(path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        connection.execute(_CACHE)
        _migrate(connection, path)
    return connection


def connect_reader(state_dir: Path) -> sqlite3.Connection:
    """Open the journal read-only, beside a running daemon or without one.

    Raises ``StateError`` when there is no journal, ``DamagedError`` when it is none of ours.
    """
    path = state_dir / FILE_NAME
    if not path.exists():
        raise StateError(
            f"{path} does not exist; has `forwarder run` been started with these settings?"
        )
    with translated(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
        )
        connection.execute(_CACHE)
        _check_version(connection, path)
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Create the schema in an empty file; refuse what is not ours or newer than this program."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and tables == 0:
        schema = files("forwarder.journal").joinpath("schema.sql").read_text(encoding="utf-8")
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
        return
    _check_version(connection, path)


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path} has schema version {version}, this program knows {SCHEMA_VERSION}: "
            "it was written by a newer release; install that one"
        )
    if version != SCHEMA_VERSION:
        raise DamagedError(
            f"{path} is not a journal of this program (schema version {version}); nothing was "
            "changed. Point state_dir at another folder, or restore the file from a backup"
        )


@contextmanager
def translated(path: Path | str) -> Iterator[None]:
    """Turn SQLite's exceptions into ours: what passes is transient, damage is said plainly."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # a mistake of this program's, which says nothing about the file
    except sqlite3.Error as error:
        text = str(error)
        if any(words in text for words in _PASSING):
            raise TransientError(
                f"the journal cannot be written or read: {text} ({path})",
                hint="free disk space or mend the volume; nothing is lost, it is tried again",
            ) from error
        raise DamagedError(damage(path, text)) from error
    except CorruptError as error:
        raise DamagedError(damage(path, str(error))) from error
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedError(damage(path, f"a stored value cannot be read: {error}")) from error


def damage(path: Path | str, what: str) -> str:
    """Return the sentence for a damaged journal: the file, what is damaged, what to do."""
    return (
        f"the journal {path} is damaged: {what}. Nothing was changed or deleted. "
        f"`forwarder check --journal` lists all damage; {REMEDY}"
    )
