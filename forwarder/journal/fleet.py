"""Who owns which shard: leases by the clock of the database, and the fence that makes them safe.

A lease says when somebody else may take a shard; it is never trusted for more. What keeps the old
owner from writing is the fence, which every take and every commit moves.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, NamedTuple

from psycopg import Connection

from forwarder.core.errors import StateError, TransientError
from forwarder.journal.postgres import (
    LIMITS,
    Database,
    Ownership,
    placeholders,
    translated,
)

VERSION = 1
"""Of the tables of both files, ``fleet.sql`` and ``postgres.sql``."""
_FIRST_VERSION_BITS = 61
_TAKE = """
UPDATE lease SET epoch = epoch + 1, owner = ?,
    expires_at = clock_timestamp() + ? * interval '1 second'
WHERE shard = ? AND expires_at < clock_timestamp() RETURNING epoch
"""
_RENEW = """
UPDATE lease SET expires_at = clock_timestamp() + ? * interval '1 second'
WHERE shard = ? AND epoch = ?
"""
_RELEASE = """
UPDATE lease SET owner = '', expires_at = '-infinity' WHERE shard = ? AND epoch = ?
"""
_OWNERS = """
SELECT shard, epoch, CASE WHEN expires_at < clock_timestamp() THEN '' ELSE owner END
FROM lease ORDER BY shard
"""


class Owner(NamedTuple):
    """Who owns a shard at present; ``owner`` is empty if nobody does."""

    shard: int
    epoch: int
    owner: str


class Leases:
    """Takes, renews and gives back shards, over a connection of its own; blocks."""

    def __init__(self, database: Database, owner: str, seconds: float) -> None:
        """Connect to nothing yet; ``owner`` names this process, a lease lasts ``seconds``."""
        self._database = database
        self._owner = owner
        self._seconds = seconds
        self._connection: Connection[Any] | None = None

    def take(self, shard: int) -> Ownership | None:
        """Become the owner of a shard whose lease is over; None if somebody owns it.

        Raises ``TransientError`` if the database is away, or the old owner's transaction is open.
        """
        with self._transaction() as connection:
            taken = connection.execute(
                placeholders(_TAKE), (self._owner, self._seconds, shard)
            ).fetchone()
            if taken is None:
                return None
            version = secrets.randbits(_FIRST_VERSION_BITS)
            connection.execute(
                placeholders("UPDATE fence SET epoch = ?, version = ? WHERE shard = ?"),
                (taken[0], version, shard),
            )
        return Ownership(shard, int(taken[0]), version)

    def renew(self, own: Ownership) -> bool:
        """Prolong a lease; False if the shard has another owner."""
        with self._transaction() as connection:
            renewed = connection.execute(
                placeholders(_RENEW), (self._seconds, own.shard, own.epoch)
            )
        return renewed.rowcount == 1

    def release(self, own: Ownership) -> None:
        """Let the next owner take the shard at once."""
        with self._transaction() as connection:
            connection.execute(placeholders(_RELEASE), (own.shard, own.epoch))

    def owners(self) -> list[Owner]:
        """Return every shard's owner."""
        with self._transaction() as connection:
            return [Owner(*row) for row in connection.execute(_OWNERS).fetchall()]

    def check(self) -> None:
        """Raise ``StateError`` unless the schema is there, and one that this program knows."""
        with self._transaction() as connection:
            (version,) = connection.execute("SELECT version FROM fleet").fetchone() or (0,)
        if version > VERSION:
            raise StateError(
                f"schema {self._database.schema} has version {version}, this program knows "
                f"{VERSION}: a newer release made it. Install that release"
            )

    def close(self) -> None:
        """Give the connection back; idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[Connection[Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect()
        connection = self._connection
        try:
            with translated(), connection.transaction():
                connection.execute(f"SET LOCAL search_path = {self._database.schema}; {LIMITS}")
                yield connection
        except TransientError:
            # Whatever state it is in: the next attempt begins with a new one.
            self.close()
            raise


def statements(schema: str, shard_schema: str) -> Iterator[str]:
    """Give the SQL that makes the schemas and tables of a fleet with one shard."""
    yield f"CREATE SCHEMA {schema}"
    yield f"SET LOCAL search_path = {schema}"
    yield _text("fleet.sql")
    yield f"INSERT INTO fleet VALUES (1, {VERSION})"
    yield "INSERT INTO fence VALUES (0, 0, 0)"
    yield "INSERT INTO lease VALUES (0, 0, '', '-infinity')"
    yield f"CREATE SCHEMA {shard_schema}"
    yield f"SET LOCAL search_path = {shard_schema}"
    yield _text("postgres.sql")


def create(database: Database) -> bool:
    """Make schemas and tables; return False if they were there.

    Raises ``StateError`` if the role may not, ``TransientError`` if the database is away.
    """
    with database.connect() as connection, translated(), connection.transaction():
        # Two hosts may begin at the same moment; the lock ends with the transaction.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('forwarder journal create'))")
        found = connection.execute("SELECT to_regclass(%s)", (f"{database.schema}.fleet",))
        if found.fetchone() != (None,):
            return False
        (encoding,) = connection.execute("SHOW server_encoding").fetchone() or ("",)
        if encoding != "UTF8":
            raise StateError(f"the database has encoding {encoding}; the journal needs UTF8")
        for statement in statements(database.schema, database.shard_schema(0)):
            connection.execute(statement)
    return True


def _text(name: str) -> str:
    return files("forwarder.journal").joinpath(name).read_text(encoding="utf-8")
