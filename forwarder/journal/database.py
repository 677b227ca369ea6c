"""The journal's file: its lock, its connections, its one writer, its checks."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from json import JSONDecodeError
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

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
from forwarder.journal.storage import CorruptError, PageRow, to_stored

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


T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_GROUP = 64
_PATIENCE = 0.05


class _Job:
    """An operation, who waits for it, and what became of it."""

    __slots__ = ("error", "future", "loop", "operation", "patient", "result")

    def __init__(self, operation: Operation[Any], *, patient: bool) -> None:
        self.operation = operation
        self.patient = patient
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """Runs operations in order, several to a transaction.

    An operation sees what the ones before it wrote. If one fails it alone is undone; if the
    commit fails all of its group are, and every caller is told. ``on_rollback`` is called in the
    writer's thread after anything was undone, so that caches above can be dropped.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, on_rollback: Callable[[], None]
    ) -> None:
        """Take over a connection and start the thread; ``path`` is for messages."""
        self._path = path
        self._connection = connection
        self._on_rollback = on_rollback
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._closed = False
        self.trouble: TransientError | None = None
        """Why nothing can be written, until something was; set in the thread, read anywhere."""
        self._thread.start()

    async def run(self, operation: Operation[T], *, patient: bool = False) -> T:
        """Run ``operation(connection)`` inside a transaction; return once it is on disk.

        A ``patient`` operation may wait up to 50 ms for company, so that acknowledgements share
        a sync. Cancelling the caller does not undo the operation. Raises what the operation
        raised, ``TransientError`` for a full or failing disk, ``DamagedError`` for damage.
        """
        if self._closed:
            raise TransientError("the journal is closed")
        job = _Job(operation, patient=patient)
        self._jobs.put(job)
        result: T = await asyncio.shield(job.future)
        return result

    async def aclose(self) -> None:
        """Finish what was handed in, then close; idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (jobs := self._gather()) is not None:
            before = self._connection.total_changes
            self._commit(jobs)
            self._remember(jobs, changed=self._connection.total_changes > before)
            for loop in {job.loop for job in jobs}:
                loop.call_soon_threadsafe(_settle, [job for job in jobs if job.loop is loop])
        self._connection.close()

    def _gather(self) -> list[_Job] | None:
        """Return the next group, or None when there is nothing more to come."""
        job = self._jobs.get()
        if job is None:
            return None
        jobs, until = [job], time.monotonic() + _PATIENCE
        while len(jobs) < _GROUP:
            patient = all(waiting.patient for waiting in jobs)
            try:
                timeout = max(0.0, until - time.monotonic()) if patient else 0.0
                job = self._jobs.get(timeout=timeout) if timeout else self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            with translated(self._path):
                self._connection.execute("BEGIN IMMEDIATE")
                for job in jobs:
                    self._attempt(job)
                self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it was, every caller must hear of it
            self._undo("ROLLBACK")
            for job in jobs:
                job.error = job.error or error

    def _attempt(self, job: _Job) -> None:
        self._connection.execute("SAVEPOINT job")
        try:
            with translated(self._path):
                job.result = job.operation(self._connection)
        except Exception as error:
            job.error = error
            self._undo("ROLLBACK TO job")
            if not self._connection.in_transaction:  # a full disk may undo the whole of it
                raise
        self._connection.execute("RELEASE job")

    def _remember(self, jobs: Sequence[_Job], *, changed: bool) -> None:
        """Keep the trouble of a full or failing disk; reading alone does not end it."""
        troubles = [job.error for job in jobs if isinstance(job.error, TransientError)]
        if troubles:
            self.trouble = troubles[0]
        elif changed:
            self.trouble = None

    def _undo(self, statement: str) -> None:
        if self._connection.in_transaction:
            self._connection.execute(statement)
        self._on_rollback()


def _settle(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
            job.future.exception()
        else:
            job.future.set_result(job.result)


_TABLES = {
    "counter",
    "dead_letter",
    "gap",
    "key_set",
    "lane",
    "memory",
    "page",
    "progress",
    "reader",
    "sink",
    "stream",
}
_NEWEST = """
SELECT account_id, name, first_offset, count, stream, lane, seen_us, timeless, tmin_us, tmax_us,
    crc, times, hashes, body
FROM page JOIN stream ON stream.id = page.stream WHERE body IS NOT NULL
ORDER BY first_offset DESC LIMIT ?
"""
_NEWEST_PAGES = 4
_SMALL_TABLES = ("counter", "key_set", "lane", "memory", "progress", "reader", "sink", "stream")
_STRAYS = """
SELECT 'a sink stands behind the last row' FROM progress, counter WHERE prefix > next_offset
UNION ALL SELECT 'a sink has no place' FROM sink
WHERE NOT EXISTS (SELECT 1 FROM progress WHERE sink = sink.id)
UNION ALL SELECT 'the two copies of a value in table ' || name || ' differ' FROM torn LIMIT 1
"""


def check_quickly(connection: sqlite3.Connection, path: Path) -> None:
    """Look at the schema, every small table, the counters and the newest pages, at every start.

    Costs the same for a small and a large journal. Raises ``DamagedError``.
    """
    with translated(path):
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if not tables >= _TABLES:
            missing = ", ".join(sorted(_TABLES - tables))
            raise CorruptError(f"tables are missing: {missing}")
        highest = connection.execute(
            "SELECT first_offset + count FROM page ORDER BY first_offset DESC LIMIT 1"
        ).fetchone()
        following = connection.execute("SELECT next_offset FROM counter").fetchone()
        if following is None or (highest and highest[0] > following[0]):
            raise CorruptError("the offset counter lies below stored rows")
        for verdict in _small_damages(connection):
            raise CorruptError(verdict)
        for row in connection.execute(_NEWEST, (_NEWEST_PAGES,)):
            _check_page(PageRow(*row))


def check_fully(connection: sqlite3.Connection, path: Path) -> Iterator[str]:
    """Yield one sentence for every damage in the whole file; nothing when it is whole."""
    with translated(path):
        for (verdict,) in connection.execute("PRAGMA integrity_check"):
            if verdict != "ok":
                yield verdict
        yield from (verdict for (verdict,) in connection.execute(_STRAYS))
        for row in connection.execute(_NEWEST, (-1,)):
            try:
                _check_page(PageRow(*row))
            except CorruptError as error:
                yield str(error)


def _small_damages(connection: sqlite3.Connection) -> Iterator[str]:
    for table in _SMALL_TABLES:
        for (verdict,) in connection.execute(f"PRAGMA integrity_check({table})"):
            if verdict != "ok":
                yield f"{verdict} (table {table})"
    yield from (verdict for (verdict,) in connection.execute(_STRAYS))


def _check_page(row: PageRow) -> None:
    try:
        page = to_stored(row)
        rows = len(page.rows)
    except ValueError as error:
        raise CorruptError(f"the page at {row.first_offset} is no JSON") from error
    if rows != page.count:
        raise CorruptError(f"the page at {row.first_offset} has {rows} rows, not {page.count}")
