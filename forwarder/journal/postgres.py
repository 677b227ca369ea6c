"""PostgreSQL: its sessions, the fence in front of every write, and its errors in our words.

Imported only when the settings name this engine. Plain transactions and nothing else: no LISTEN,
no locks or settings that outlive a transaction, so that a pooler may stand in between.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from json import JSONDecodeError
from typing import Any, NamedTuple, Self

import orjson
import psycopg
from psycopg import Connection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from forwarder.core.errors import (
    DamagedError,
    NeedsOperatorError,
    StateError,
    TransientError,
)
from forwarder.core.journal import Keeping
from forwarder.core.lease import Request
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal.journal import SqlJournal
from forwarder.journal.storage import CorruptError, Rows, Session
from forwarder.journal.writer import PATIENCE

_TOKENS = re.compile(r"'[^']*'|\?|(?<!:):([a-z]\w*)|%")
# A machine that vanishes silently is noticed within about ten seconds, in both directions.
_NETWORK = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "forwarder",
    "client_encoding": "UTF8",
}
# In each transaction, since a pooler gives every transaction another connection. A process that is
# stopped inside a transaction holds the fence's row: without the first of these for ever.
LIMITS = (
    "SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL lock_timeout = '5s'; "
    "SET LOCAL statement_timeout = '30s'; "
)
_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
# The server ends the connection with these, and psycopg does not count them as operational.
_ENDED = (errors.IdleInTransactionSessionTimeout, errors.TransactionTimeout)
_OPERATORS_BUSINESS = (
    ("password authentication failed", "correct the password of the journal's role"),
    ("no password supplied", "set journal.password_file, or a password in journal.dsn"),
    ("no pg_hba.conf entry", "let this host in (pg_hba.conf), or correct sslmode in journal.dsn"),
    ("does not exist", "create the database and the role that journal.dsn names"),
    ("permission denied for database", "GRANT CONNECT ON DATABASE to the journal's role"),
    # libpq judges options by their values when it connects.
    ("invalid ", "correct the option of journal.dsn that is named"),
    ("certificate", "correct sslmode, sslrootcert or the certificate that journal.dsn names"),
)
_NO_DSN = (
    "journal.dsn is not a valid connection string of PostgreSQL. Correct it. In an address, write "
    "@ in a password as %40, / as %2F and % as %25, or set journal.password_file"
)
_CLOSING = 3.0
"""Seconds for what was handed in to be written before the connections are broken."""
_WAITING_REQUEST = """
SELECT 1 FROM request WHERE shard = ? AND epoch IS NULL AND until > clock_timestamp() LIMIT 1
"""
_TAKE_REQUEST = """
UPDATE request SET epoch = ? WHERE epoch IS NULL AND id = (
    SELECT id FROM request WHERE shard = ? AND epoch IS NULL AND until > clock_timestamp()
    ORDER BY until, id LIMIT 1
) RETURNING id, command, given
"""
_ANSWER_REQUEST = "UPDATE request SET answer = ? WHERE id = ?"
GRANT_HINT = (
    "grant the role USAGE on the journal's schemas, and all rights on their tables and sequences"
)
CREATE_HINT = "run `forwarder journal create` with a role that may create schemas"


class Upgrade(NamedTuple):
    """SQL from one version of the tables to the next: of the fleet's, and of each shard's."""

    fleet: str = ""
    shard: str = ""


UPGRADES: Sequence[Upgrade] = ()
"""From version 1 on. What was released never changes; a new version is one more."""


@dataclass(frozen=True)
class Database:
    """Where the journal's database is, and which schema of it is the forwarder's.

    ``conninfo`` is asked at every connection: a password in a file may have changed. With
    ``pooler``, nothing is prepared on the server. ``upgrades`` are the program's.
    """

    conninfo: Callable[[], str]
    schema: str
    pooler: bool = False
    upgrades: Sequence[Upgrade] = UPGRADES

    @property
    def version(self) -> int:
        """Return the version of the tables that this program works on."""
        return 1 + len(self.upgrades)

    def arguments(self) -> Mapping[str, str]:
        """Return the parts of the connection string; raises ``StateError`` if it has no such form.

        Raises ``NeedsOperatorError`` for a file that cannot be read.
        """
        try:
            given = {key: str(value) for key, value in conninfo_to_dict(self.conninfo()).items()}
        except psycopg.ProgrammingError:
            # From None: its text quotes what it could not read, which may be the password.
            raise StateError(_NO_DSN) from None
        if _has_half_a_password(given):
            raise StateError(_NO_DSN)
        return given

    def connect(self) -> Connection[Any]:
        """Open a connection; raises ``TransientError``, ``NeedsOperatorError``, ``StateError``."""
        given = self.arguments()
        with translated():
            try:
                connection = psycopg.connect(
                    make_conninfo("", **{**_NETWORK, **given}), autocommit=True
                )
            except psycopg.ProgrammingError:
                raise StateError(_NO_DSN) from None
        # Always eight bytes: a parameter's type must not depend on how large the number is.
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        if self.pooler:
            connection.prepare_threshold = None
        return connection

    @property
    def home(self) -> str:
        """Return the schema as SQL takes it: its name may be a word of SQL."""
        return f'"{self.schema}"'

    def shard_schema(self, shard: int) -> str:
        """Return the schema of one shard's tables."""
        return f"{self.schema}_s{shard:02}"

    def path(self, shard: int) -> str:
        """Return the search path of a transaction on a shard: its tables, then the fleet's."""
        return f"SET LOCAL search_path = {self.shard_schema(shard)}, {self.home}; "


def _has_half_a_password(given: Mapping[str, str]) -> bool:
    """Return True if a password with an unescaped @ or / has left a part of itself elsewhere.

    The errors of a connection quote host, port and database.
    """
    ports = given.get("port", "").replace(",", "")
    # A host that begins with @ is an abstract socket.
    hosts = [host[1:] for host in given.get("host", "").split(",")]
    return "@" in "".join([*hosts, given.get("dbname", "")]) or not (ports or "0").isdecimal()


def with_password(conninfo: str, password: str) -> str:
    """Return the connection string with a password."""
    return make_conninfo(conninfo, password=password)


@lru_cache(maxsize=1024)
def placeholders(sql: str) -> str:
    """Return a statement of this package with psycopg's placeholders."""

    def replaced(token: re.Match[str]) -> str:
        text, name = token[0], token[1]
        if name:
            return f"%({name})s"
        return "%s" if text == "?" else text.replace("%", "%%")

    return _TOKENS.sub(replaced, sql)


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's exceptions into ours; their texts may quote rows, so only a part is kept."""
    try:
        yield
    except (errors.UndefinedTable, errors.InvalidSchemaName) as error:
        raise StateError(f"the database has no journal: {_said(error)}; {CREATE_HINT}") from error
    except (errors.DuplicateSchema, errors.DuplicateTable) as error:
        remedy = "drop it, or name another journal.schema"
        raise StateError(f"in the database, {_said(error)} without a journal: {remedy}") from error
    except errors.InsufficientPrivilege as error:
        raise lacking_right(_said(error)) from error
    except errors.ReadOnlySqlTransaction as error:
        raise read_only() from error
    except (errors.DataCorrupted, errors.IndexCorrupted) as error:
        raise DamagedError(f"the database is damaged: {_said(error)}") from error
    except (psycopg.OperationalError, *_ENDED) as error:
        raise _unavailable(error) from error
    except psycopg.Error as error:
        # From None: what these say may quote values of rows, and a crash is logged with its causes.
        kind = f"{type(error).__name__}, SQLSTATE {error.sqlstate}"
        raise StateError(f"the journal's database refuses a statement: {kind}") from None
    except CorruptError as error:
        raise DamagedError(f"the journal is damaged: {error}. Nothing was changed") from error
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedError(
            f"the journal is damaged: a stored value is unreadable: {error}"
        ) from error


def lacking_right(what: str) -> NeedsOperatorError:
    """Return the error for a role that may not do ``what``."""
    hint = CREATE_HINT if "database" in what else GRANT_HINT
    return NeedsOperatorError(f"the role of the journal lacks a right: {what}", hint=hint)


def read_only() -> TransientError:
    """Return the error for a database that takes no writes."""
    return TransientError(
        "the journal's database takes no writes: it is in recovery, or a standby",
        hint="add target_session_attrs=read-write and all hosts to journal.dsn",
    )


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().splitlines()[0]


def _unavailable(error: psycopg.Error) -> TransientError:
    said = _said(error)
    again = "nothing is lost, `forwarder run` tries again"
    if isinstance(error, errors.DiskFull):
        full = f"the disk of the journal's database is full: {said}"
        return TransientError(full, hint=f"free space on it; {again}")
    if isinstance(error, errors.LockNotAvailable):
        locked = "another session of the journal's database has locked what is needed"
        culprits = "ALTER TABLE, VACUUM FULL, an open transaction"
        return TransientError(locked, hint=f"if it lasts, pg_locks shows whose: {culprits}")
    for words, remedy in _OPERATORS_BUSINESS:
        if words in str(error):
            return NeedsOperatorError(f"the journal's database refuses: {said}", hint=remedy)
    return TransientError(
        f"the journal's database is unavailable: {said}",
        hint=f"check that it runs and can be reached; {again}",
    )


class Ownership(NamedTuple):
    """What an owner knows of its shard when it takes it: its epoch, and the version of the state.

    ``former`` is the owner before, if it never gave the shard back.

    The version grows with each commit and begins at a random number with each owner. So two owners
    never agree by accident, even if a failover of the database has lost commits and an epoch is
    given out again.
    """

    shard: int
    epoch: int
    version: int
    former: str = ""


class PostgresSession:
    """A connection as a ``Session``, opened when it is first used."""

    def __init__(self, database: Database, path: str, ownership: Ownership | None = None) -> None:
        """Write as the owner of a shard, or only read without an ``ownership``."""
        self._database = database
        self._path = path
        self._ownership = ownership
        self._version = 0 if ownership is None else ownership.version
        self._connection: Connection[Any] | None = None
        self._ended: TransientError | None = None
        self._commits = 0

    @property
    def ended(self) -> TransientError | None:
        """Return why this session writes no more, or None."""
        return self._ended

    def execute(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Rows:
        """Run one statement."""
        return self._open().execute(placeholders(sql), values, binary=True)

    def begin(self) -> None:
        """Begin a transaction, and move the fence: raises unless the state is what we saw last."""
        if self._ended is not None:
            raise self._ended
        own = self._ownership
        assert own is not None, "a session that only reads begins no writes"  # noqa: S101  # nosec B101
        try:
            cursor = self._open().execute(
                f"BEGIN; {self._path}{LIMITS}UPDATE fence SET version = version + 1 WHERE "
                f"shard = {own.shard} AND epoch = {own.epoch} AND version = {self._version}"
            )
            while cursor.nextset():
                pass
        except psycopg.Error as error:
            self._end_if_gone(error)
            raise
        if cursor.rowcount != 1:
            self.rollback()
            raise self._end(f"shard {own.shard} of the journal has another owner, or went back")

    def begin_reading(self) -> None:
        """Begin a transaction that sees one state; connects again if the connection is gone."""
        self.rollback()
        statement = f"{_READING}{self._path}{LIMITS}"
        try:
            self._open().execute(statement)
        except psycopg.OperationalError as error:
            self._end_if_gone(error)
            if self._connection is not None:
                raise
            # It was gone since the last answer: nothing was read yet, so another one will do.
            self._open().execute(statement)

    def commit(self) -> None:
        """Commit; whatever goes wrong here leaves it open whether the transaction took effect."""
        try:
            done = self._open().execute("COMMIT")
        except psycopg.Error as error:
            raise self._end(f"it is unknown if a commit took effect: {_said(error)}") from error
        # PostgreSQL answers a COMMIT of a failed transaction with ROLLBACK, and no error.
        if done.statusmessage != "COMMIT":
            raise self._end("a transaction was rolled back instead of committed")
        self._commits += 1
        self._version += 1

    def rollback(self) -> None:
        """Undo the transaction; a connection that is gone has done so itself."""
        if self.in_transaction:
            try:
                self._open().execute("ROLLBACK")
            except psycopg.Error as error:
                self._end_if_gone(error)
        elif self._connection is not None and self._connection.closed:
            self._end_if_gone(None)

    @property
    def in_transaction(self) -> bool:
        """Return True while a transaction is open, failed ones included."""
        connection = self._connection
        if connection is None or connection.closed:
            return False
        return connection.info.transaction_status in {
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        }

    @property
    def changes(self) -> int:
        """Return how many transactions were committed: each has moved the fence."""
        return self._commits

    def close(self) -> None:
        """Close the connection; idempotent."""
        if self._connection is not None:
            self._connection.close()

    def abort(self) -> None:
        """Break the connection from another thread, so that whoever waits for an answer returns."""
        connection = self._connection
        if connection is not None and not connection.closed:
            with (
                suppress(OSError, psycopg.Error),
                socket.socket(fileno=os.dup(connection.fileno())) as wire,
            ):
                wire.shutdown(socket.SHUT_RDWR)

    def _open(self) -> Connection[Any]:
        if self._connection is None:
            self._connection = self._database.connect()
        return self._connection

    def _end_if_gone(self, error: psycopg.Error | None) -> None:
        """Forget a connection that is gone; the writer's is not replaced, its state may be old."""
        if self._connection is None or not self._connection.closed:
            return
        self._connection = None
        if self._ownership is not None and self._ended is None:
            self._end(f"the connection was lost{f': {_said(error)}' if error else ''}")

    def _end(self, why: str) -> TransientError:
        self._ended = TransientError(
            f"this process writes no more to its journal: {why}",
            hint="it opens the journal again from the database",
        )
        return self._ended


class PostgresEngine:
    """One shard's tables in the database."""

    def __init__(self, database: Database, shard: int) -> None:
        """Connect to nothing yet."""
        self.database = database
        self._path = database.path(shard)
        self._sessions: list[PostgresSession] = []

    def writing(self, ownership: Ownership) -> PostgresSession:
        """Return the session of the shard's owner."""
        return self._remember(PostgresSession(self.database, self._path, ownership))

    def reading(self) -> PostgresSession:
        """Return a session that only reads, beside an owner or without one."""
        return self._remember(PostgresSession(self.database, self._path))

    def size(self, session: Session) -> int:
        """Return the bytes of the shard's tables and indexes."""
        found = session.execute(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = CAST(current_schema() AS regnamespace)"
        )
        return int(found.fetchone()[0])

    def translated(self) -> AbstractContextManager[None]:
        """Raise psycopg's exceptions as ours."""
        return translated()

    def abort(self) -> None:
        """Break all connections, so that nobody waits for a database that does not answer."""
        for session in self._sessions:
            session.abort()

    def _remember(self, session: PostgresSession) -> PostgresSession:
        self._sessions.append(session)
        return session


class PostgresJournal(SqlJournal):
    """Owns one shard, until another process does."""

    _engine: PostgresEngine

    @classmethod
    async def open(
        cls,
        database: Database,
        ownership: Ownership,
        keeping: Keeping,
        *,
        clock: Clock,
        emit: Emit,
        patience: float = PATIENCE,
        wrap: Callable[[Session], Session] = lambda session: session,
    ) -> Self:
        """Open a shard that this process has just taken; ``patience``, ``wrap`` as for SQLite.

        Raises ``TransientError``, ``StateError`` or ``DamagedError``.
        """
        engine = PostgresEngine(database, ownership.shard)
        session = wrap(engine.writing(ownership))
        return await cls(engine, session, keeping, clock, emit, patience=patience).begin()

    async def next_request(self, own: Ownership) -> Request | None:
        """Take the oldest request as the owner; see ``core.lease.Lease``."""
        # A write moves the fence, so nothing is written while nobody asks.
        if not await self._reader.query(
            lambda session: session.execute(_WAITING_REQUEST, (own.shard,)).fetchall()
        ):
            return None
        taken = await self._writer.run(
            lambda session: session.execute(_TAKE_REQUEST, (own.epoch, own.shard)).fetchone()
        )
        return None if taken is None else Request(taken[0], taken[1], orjson.loads(taken[2]))

    async def answer(self, request: Request, status: int, content: Mapping[str, Any]) -> None:
        """See ``core.lease.Lease``."""
        text = orjson.dumps([status, content], default=str).decode()
        await self._writer.run(lambda session: session.execute(_ANSWER_REQUEST, (text, request.id)))

    async def aclose(self) -> None:
        """Finish writing if the database answers; idempotent."""
        closing = asyncio.ensure_future(super().aclose())
        done, _ = await asyncio.wait({closing}, timeout=_CLOSING)
        if not done:
            self._engine.abort()
        await closing
