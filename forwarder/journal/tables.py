"""The tables of a journal in PostgreSQL: made, upgraded, and recognised before anybody uses them.

``fleet.sql`` and ``postgres.sql`` are version 1; ``postgres.UPGRADES`` leads to the later ones. The
tables are those of the oldest replica that lives: a newer one stands by while an older one works,
and upgrades when the last of them is gone. So a release can be rolled out, and back, without a
moment in which nobody may work. The fleet's tables are upgraded in one transaction, then those of
each shard in the one in which a new owner takes the shard: whatever dies, they are old or new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, NamedTuple

from psycopg import Connection

from forwarder.core.errors import NeedsOperatorError, StateError, TransientError
from forwarder.core.lease import Identity, ShardOwner, is_foreign
from forwarder.journal.postgres import (
    LIMITS,
    Database,
    lacking_right,
    placeholders,
    read_only,
    translated,
)

_OWNERS = """
SELECT shard, epoch, CASE WHEN lives THEN owner ELSE '' END, undelivered_bytes, stored_bytes,
    CASE WHEN lives THEN to_char(taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    ELSE '' END
FROM (SELECT *, expires_at >= clock_timestamp() AS lives FROM lease) AS found ORDER BY shard
"""
# An owner that is not a replica is a command, of whatever release.
_OLDER = """
SELECT name FROM replica WHERE tables < ? AND left_at IS NULL
    AND seen_at > clock_timestamp() - ? * interval '1 second'
UNION SELECT owner FROM lease WHERE expires_at >= clock_timestamp()
    AND owner NOT IN (SELECT name FROM replica WHERE tables >= ?) ORDER BY 1
"""
_LACKING = """
SELECT nspname || '.' || relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND nspname ~ ? AND NOT (
    SELECT bool_and(has_table_privilege(pg_class.oid, needed))
    FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed
) ORDER BY 1 LIMIT 1
"""
_LONG = "SET LOCAL statement_timeout = 0"
# Another host may be creating.
_CREATING = f"{LIMITS}SET LOCAL lock_timeout = '15s'"


class Tables:
    """What anybody may read of a fleet, over a connection of its own; blocks."""

    def __init__(self, database: Database) -> None:
        """Connect to nothing yet."""
        self._database = database
        self._connection: Connection[Any] | None = None

    def owners(self) -> list[ShardOwner]:
        """Return every shard's owner."""
        with self._transaction() as connection:
            return self._owners(connection)

    def placed(self) -> dict[str, int]:
        """Return the shard of each account that has one."""
        with self._transaction() as connection:
            return self._placed(connection)

    def check(self, own: Identity | None = None) -> None:
        """Raise unless the journal is in use, known to this program, and this fleet's.

        ``StateError`` is for the tables, ``NeedsOperatorError`` for settings of another fleet.
        """
        with self._transaction() as connection:
            require_usable(connection, self._database)
            if own is not None:
                self._identify(connection, own)

    def check_live(self, own: Identity) -> None:
        """Raise as ``check``, and if this fleet could not write; changes nothing."""
        self.check(own)
        with self._transaction() as connection:
            require_writable(connection)
            schemas = (f"^{self._database.schema}(_s[0-9]+)?$",)
            lacking = connection.execute(placeholders(_LACKING), schemas).fetchone()
        if lacking is not None:
            raise lacking_right(f"on table {lacking[0]}")

    def close(self) -> None:
        """Give the connection back; idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _owners(self, connection: Connection[Any]) -> list[ShardOwner]:
        return [ShardOwner(*row) for row in connection.execute(_OWNERS).fetchall()]

    def _placed(self, connection: Connection[Any]) -> dict[str, int]:
        # A journal that was copied, or that had one shard, knows its accounts by their streams.
        schema = self._database.shard_schema(0)
        # The forwarder's own events belong to no account.
        streams = f"SELECT DISTINCT account_id FROM {schema}.stream WHERE account_id <> ''"
        old = connection.execute(streams).fetchall()
        new = connection.execute("SELECT account_id, shard FROM account").fetchall()
        return dict.fromkeys((account for (account,) in old), 0) | dict(new)

    def _identify(self, connection: Connection[Any], own: Identity) -> None:
        """Raise ``NeedsOperatorError`` if the fleet is another one."""
        (name,) = connection.execute("SELECT name FROM fleet").fetchone() or ("",)
        accounts = dict.fromkeys(self._placed(connection), "")
        if is_foreign(Identity(name, accounts), own):
            raise _of_another(self._database, Identity(name, accounts), own)

    @contextmanager
    def _transaction(self) -> Iterator[Connection[Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect()
        connection = self._connection
        try:
            with translated(), connection.transaction():
                connection.execute(f"SET LOCAL search_path = {self._database.home}; {LIMITS}")
                yield connection
        except TransientError:
            # Whatever state it is in: the next attempt begins with a new one.
            self.close()
            raise


def _of_another(database: Database, found: Identity, own: Identity) -> NeedsOperatorError:
    here = f"schema {database.schema} of the journal's database belongs to another forwarder"
    if found.name and own.name:
        return NeedsOperatorError(
            f"{here}: its name is {found.name}, that of these settings is {own.name}",
            hint="name another journal.schema, or correct journal.fleet",
        )
    some = ", ".join(sorted(found.accounts)[:3])
    return NeedsOperatorError(
        f"{here}: it has account {some}, and none of the accounts of these settings",
        hint="name another journal.schema; to replace every account of a forwarder, keep one of "
        "the old until all replicas have the new ones",
    )


class _State(NamedTuple):
    version: int
    moved: str


def _state(connection: Connection[Any], database: Database) -> _State:
    # With its schema, since a search path leaves out silently what the role may not use.
    sql = f"SELECT version, moved FROM {database.home}.fleet"
    return _State(*(connection.execute(sql).fetchone() or (0, "")))


def require_usable(connection: Connection[Any], database: Database) -> None:
    """Raise ``StateError`` unless the journal is in use, and known to this program.

    The search path of ``connection`` is the fleet's.
    """
    version, moved = _state(connection, database)
    about = f"schema {database.schema} has version {version}, this program"
    if version > database.version:
        raise StateError(
            f"{about} knows {database.version}: a newer release made it. Install that release"
        )
    if version < database.version:
        raise StateError(
            f"{about} needs {database.version}. Start `forwarder run` once, or run `forwarder "
            "journal create`, when no replica of an older release runs any more"
        )
    if moved:
        schema, tables = database.schema, database.shard_schema(0)
        raise StateError(
            f"the journal in schema {schema} was copied elsewhere at {moved}. Use the settings "
            f"that it was copied to; to use this schema again, drop {database.home} and {tables} "
            "and run `forwarder journal create`"
        )


def require_writable(connection: Connection[Any]) -> None:
    """Raise ``TransientError`` if the database takes no writes."""
    if connection.execute("SHOW transaction_read_only").fetchone() == ("on",):
        raise read_only()


def upgrade_fleet(connection: Connection[Any], database: Database, lease: float) -> list[str]:
    """Upgrade the fleet's tables, unless older replicas live; return the names of these.

    ``lease`` is how many seconds a replica lives that says nothing. Changes nothing in tables that
    are up to date, or newer.
    """
    if _state(connection, database).version >= database.version:
        return []
    # Whoever takes a shard shares this lock: no older program can do so meanwhile.
    (version,) = connection.execute("SELECT version FROM fleet FOR UPDATE").fetchone() or (0,)
    if not 0 < version < database.version:
        return []
    known = (database.version, lease, database.version)
    older = [name for (name,) in connection.execute(placeholders(_OLDER), known).fetchall()]
    if not older:
        _run(connection, [one.fleet for one in database.upgrades[version - 1 :]])
        connection.execute(f"UPDATE fleet SET version = {database.version}")
    return older


def upgrade_shard(connection: Connection[Any], database: Database, shard: int) -> None:
    """Upgrade the tables of a shard, in the transaction that has just moved its fence."""
    sql = f"SELECT tables FROM fence WHERE shard = {shard}"
    (version,) = connection.execute(sql).fetchone() or (database.version,)
    if version < database.version:
        connection.execute(database.path(shard))
        _run(connection, [one.shard for one in database.upgrades[version - 1 :]])
        connection.execute(f"SET LOCAL search_path = {database.home}")
        connection.execute(f"UPDATE fence SET tables = {database.version} WHERE shard = {shard}")


def _run(connection: Connection[Any], scripts: Sequence[str]) -> None:
    for script in (_LONG, *filter(None, scripts)):
        connection.execute(script)


def is_there(connection: Connection[Any], database: Database) -> bool:
    """Return True if the database has the fleet's tables, of whatever version."""
    found = connection.execute("SELECT to_regclass(%s)", (f"{database.home}.fleet",))
    return found.fetchone() != (None,)


def statements(database: Database, shards: int) -> Iterator[str]:
    """Give the SQL that makes the schemas and tables of a fleet with so many shards."""
    yield f"CREATE SCHEMA {database.home}"
    yield f"SET LOCAL search_path = {database.home}"
    yield _text("fleet.sql")
    yield from filter(None, (one.fleet for one in database.upgrades))
    yield f"INSERT INTO fleet (id, version) VALUES (1, {database.version})"
    for shard in range(shards):
        yield from _shard_statements(database, shard)


def _shard_statements(database: Database, shard: int) -> Iterator[str]:
    yield f"SET LOCAL search_path = {database.home}"
    fence, free = "shard, epoch, version, tables) VALUES", "owner, expires_at) VALUES"
    yield f"INSERT INTO fence ({fence} ({shard}, 0, 0, {database.version})"
    yield f"INSERT INTO lease (shard, epoch, {free} ({shard}, 0, '', '-infinity')"
    yield f"CREATE SCHEMA {database.shard_schema(shard)}"
    yield database.path(shard)
    yield _text("postgres.sql")
    yield from filter(None, (one.shard for one in database.upgrades))


def create(database: Database, shards: int = 1) -> int:
    """Make schemas and tables that are not there; return how many shards were added.

    Raises ``NeedsOperatorError`` if the role may not, ``StateError`` for tables of another version,
    ``TransientError`` if the database is away.
    """
    with database.connect() as connection, translated(), connection.transaction():
        connection.execute(_CREATING)
        # Two hosts may begin at the same moment; the lock ends with the transaction.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('forwarder journal create'))")
        known = 0
        if is_there(connection, database):
            connection.execute(f"SET LOCAL search_path = {database.home}")
            require_usable(connection, database)
            (known,) = connection.execute("SELECT count(*) FROM lease").fetchone() or (0,)
            _require_free(connection, database, known, shards)
        require_writable(connection)
        (encoding,) = connection.execute("SHOW server_encoding").fetchone() or ("",)
        if encoding != "UTF8":
            raise StateError(f"the database has encoding {encoding}; the journal needs UTF8")
        made = [
            statement for n in range(known, shards) for statement in _shard_statements(database, n)
        ]
        for statement in made if known else statements(database, shards):
            connection.execute(statement)
    return max(0, shards - known)


def _require_free(connection: Connection[Any], database: Database, known: int, shards: int) -> None:
    """Raise ``StateError`` if the number of shards cannot change from ``known`` to ``shards``."""
    if shards < known:
        raise StateError(
            f"schema {database.schema} has {known} shards, and journal.shards is {shards}: shards "
            f"cannot be removed. Set journal.shards to {known}"
        )
    held = "SELECT owner FROM lease WHERE expires_at >= clock_timestamp()"
    found = connection.execute(held).fetchone() if shards > known else None
    if found is not None:
        raise StateError(
            f"{found[0]} has a shard of the journal in schema {database.schema}. Stop all "
            "replicas, then repeat the command: shards are added while nobody works on the journal"
        )


def _text(name: str) -> str:
    return files("forwarder.journal").joinpath(name).read_text(encoding="utf-8")
