"""The tables of a journal in PostgreSQL: made, and recognised before anybody uses them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from forwarder.core.errors import StateError
from forwarder.journal.postgres import Database, translated

VERSION = 1
"""Of the tables of both files, ``fleet.sql`` and ``postgres.sql``."""


def require_usable(connection: Any, database: Database) -> None:
    """Raise ``StateError`` unless the journal is in use, and known to this program.

    The search path of ``connection`` is the fleet's.
    """
    found = connection.execute("SELECT version, moved FROM fleet").fetchone()
    version, moved = found or (0, "")
    if version > VERSION:
        raise StateError(
            f"schema {database.schema} has version {version}, this program knows "
            f"{VERSION}: a newer release made it. Install that release"
        )
    if moved:
        schema, tables = database.schema, database.shard_schema(0)
        raise StateError(
            f"the journal in schema {schema} was copied elsewhere at {moved}. Use the settings "
            f"that it was copied to; to use this schema again, drop {database.home} and {tables} "
            "and run `forwarder journal create`"
        )


def statements(database: Database, shards: int) -> Iterator[str]:
    """Give the SQL that makes the schemas and tables of a fleet with so many shards."""
    yield f"CREATE SCHEMA {database.home}"
    yield f"SET LOCAL search_path = {database.home}"
    yield _text("fleet.sql")
    yield f"INSERT INTO fleet (id, version) VALUES (1, {VERSION})"
    for shard in range(shards):
        yield from _shard_statements(database, shard)


def _shard_statements(database: Database, shard: int) -> Iterator[str]:
    yield f"SET LOCAL search_path = {database.home}"
    yield f"INSERT INTO fence VALUES ({shard}, 0, 0)"
    free = "owner, expires_at) VALUES"
    yield f"INSERT INTO lease (shard, epoch, {free} ({shard}, 0, '', '-infinity')"
    yield f"CREATE SCHEMA {database.shard_schema(shard)}"
    yield f"SET LOCAL search_path = {database.shard_schema(shard)}"
    yield _text("postgres.sql")


def create(database: Database, shards: int = 1) -> int:
    """Make schemas and tables that are not there; return how many shards were added.

    Raises ``StateError`` if the role may not, ``TransientError`` if the database is away.
    """
    with database.connect() as connection, translated(), connection.transaction():
        # Two hosts may begin at the same moment; the lock ends with the transaction.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('forwarder journal create'))")
        found = connection.execute("SELECT to_regclass(%s)", (f"{database.home}.fleet",))
        known = 0
        if found.fetchone() != (None,):
            (known,) = connection.execute(
                f"SELECT count(*) FROM {database.home}.lease"
            ).fetchone() or (0,)
        (encoding,) = connection.execute("SHOW server_encoding").fetchone() or ("",)
        if encoding != "UTF8":
            raise StateError(f"the database has encoding {encoding}; the journal needs UTF8")
        made = [
            statement for n in range(known, shards) for statement in _shard_statements(database, n)
        ]
        for statement in made if known else statements(database, shards):
            connection.execute(statement)
    return max(0, shards - known)


def _text(name: str) -> str:
    return files("forwarder.journal").joinpath(name).read_text(encoding="utf-8")
