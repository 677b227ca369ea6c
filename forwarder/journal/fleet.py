"""Who owns which shard: leases by the clock of the database, and the fence that makes them safe.

A lease says when somebody else may take a shard; it is never trusted for more. What keeps the old
owner from writing is the fence, which every take and every commit moves.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

from psycopg import Connection

from forwarder.core.errors import ForwarderError, LockedError, StateError, TransientError
from forwarder.core.journal import Keeping
from forwarder.core.lease import (
    Announcement,
    FleetState,
    Identity,
    Member,
    Request,
    Taken,
    placing,
)
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal import requests
from forwarder.journal.journal import SqlJournalView
from forwarder.journal.postgres import (
    Database,
    Ownership,
    PostgresEngine,
    PostgresJournal,
    placeholders,
)
from forwarder.journal.reader import JournalReader
from forwarder.journal.tables import Tables, is_there, require_usable, upgrade_fleet, upgrade_shard

T = TypeVar("T")
Held: TypeAlias = tuple[int | None, int | None]

_FIRST_VERSION_BITS = 61
_IDENTITIES = ("stream", "lane", "sink", "dead_letter", "gap")
_TAKE = """
WITH free AS (
    SELECT shard, owner FROM lease WHERE shard = ? AND expires_at < clock_timestamp() FOR UPDATE
)
UPDATE lease SET epoch = epoch + 1, owner = ?, taken_at = clock_timestamp(),
    expires_at = clock_timestamp() + ? * interval '1 second'
FROM free WHERE lease.shard = free.shard RETURNING epoch, free.owner
"""
_RENEW = """
UPDATE lease SET expires_at = clock_timestamp() + ? * interval '1 second',
    undelivered_bytes = coalesce(?, undelivered_bytes), stored_bytes = coalesce(?, stored_bytes)
WHERE shard = ? AND epoch = ?
"""
_RELEASE = """
UPDATE lease SET owner = '', expires_at = '-infinity' WHERE shard = ? AND epoch = ?
"""
_FIRST_SEEN = """
INSERT INTO settings (hash) SELECT ? WHERE NOT EXISTS (SELECT FROM settings WHERE hash = ?)
ON CONFLICT DO NOTHING
"""
# Two replicas must not part the accounts of one credential. A take does not wait for that.
_ONE_BY_ONE = "SELECT id FROM fleet FOR NO KEY UPDATE"
# Looks come several times a second; a row that is fresh enough is not written again.
_BEAT = """
INSERT INTO replica AS old (name, seen_at, generation, sinks, tables, version, started_at,
    admin_url, push_url)
SELECT ?, clock_timestamp(), coalesce(?, generation), ?, ?, ?, ?, ?, ? FROM settings WHERE hash = ?
ON CONFLICT (name) DO UPDATE SET (left_at, seen_at, generation, sinks, tables, version, started_at,
    admin_url, push_url) = ROW(NULL, excluded.seen_at, excluded.generation, excluded.sinks,
    excluded.tables, excluded.version, excluded.started_at, excluded.admin_url, excluded.push_url)
WHERE old.seen_at < clock_timestamp() - ? * interval '1 second'
    OR (old.generation, old.sinks, old.version, old.started_at, old.admin_url, old.push_url)
    <> (excluded.generation, excluded.sinks, excluded.version, excluded.started_at,
    excluded.admin_url, excluded.push_url)
"""
_SEEN = """
SELECT name, version, started_at, admin_url, push_url,
    round(extract(epoch FROM clock_timestamp() - seen_at), 1)::float8 AS seen,
    generation, sinks, left_at IS NOT NULL
FROM replica WHERE seen_at > clock_timestamp() - interval '1 hour' ORDER BY name
"""
_LEAVE = "UPDATE replica SET left_at = clock_timestamp() WHERE name = ?"
_OLD = "DELETE FROM replica WHERE seen_at < clock_timestamp() - interval '1 day'"


class Leases(Tables):
    """Takes, renews and gives back shards, over a connection of its own; blocks."""

    def __init__(self, database: Database, owner: str, seconds: float) -> None:
        """Connect to nothing yet; ``owner`` names this process, a lease lasts ``seconds``."""
        super().__init__(database)
        self._owner = owner
        self._seconds = seconds

    def take(self, shard: int) -> Ownership | None:
        """Become the owner of a shard whose lease is over; None if somebody owns it.

        Raises ``TransientError`` if the database is away, or the old owner's transaction is open,
        and as ``check``: a journal can be moved or upgraded while a replica stands by. The shard's
        tables are up to date after it; if that took long, the lease may be over again.
        """
        with self._transaction() as connection:
            # Nobody upgrades the fleet's tables between this look at their version and the take.
            connection.execute(f"SELECT id FROM {self._database.home}.fleet FOR KEY SHARE")
            require_usable(connection, self._database)
            taken = connection.execute(
                placeholders(_TAKE), (shard, self._owner, self._seconds)
            ).fetchone()
            if taken is None:
                return None
            version = secrets.randbits(_FIRST_VERSION_BITS)
            connection.execute(
                placeholders("UPDATE fence SET epoch = ?, version = ? WHERE shard = ?"),
                (taken[0], version, shard),
            )
            upgrade_shard(connection, self._database, shard)
        return Ownership(shard, int(taken[0]), version, str(taken[1]))

    def renew(self, own: Ownership, held: Held = (None, None)) -> bool:
        """Prolong a lease; False if the shard has another owner.

        ``held`` are the undelivered and the stored bytes of the shard, None if unknown.
        """
        with self._transaction() as connection:
            renewed = connection.execute(
                placeholders(_RENEW), (self._seconds, *held, own.shard, own.epoch)
            )
        return renewed.rowcount == 1

    def release(self, own: Ownership) -> None:
        """Let the next owner take the shard at once."""
        with self._transaction() as connection:
            connection.execute(placeholders(_RELEASE), (own.shard, own.epoch))

    def look(self, own: Announcement) -> FleetState:
        """Say that this replica lives with its ``own`` settings; return the state of the fleet.

        Raises as ``check``: the tables may have become those of a newer release.
        """
        with self._transaction() as connection:
            require_usable(connection, self._database)
            connection.execute(placeholders(_FIRST_SEEN), (own.settings, own.settings))
            sinks, me = json.dumps(sorted(own.sinks)), own.about
            about = (self._database.version, me.version, me.since, me.admin_url, me.push_url)
            beat = (self._owner, own.generation, sinks, *about, own.settings, self._seconds / 5)
            connection.execute(placeholders(_BEAT), beat)
            shards = self._owners(connection)
            seen = connection.execute(_SEEN).fetchall()
        here = {Member(*about): generation for *about, generation, _, left in seen if not left}
        alive = {one: there for one, there in here.items() if one.seen_seconds < self._seconds}
        return FleetState(
            shards,
            list(alive),
            [one.name for one, generation in alive.items() if generation == max(alive.values())],
            frozenset(sink for *_, sinks, _ in seen for sink in json.loads(sinks)),
            [one for one in here if one not in alive],
        )

    def place(self, credentials: Mapping[str, str]) -> dict[str, int]:
        """Give each account a shard for good; see ``core.lease.Fleet``."""
        with self._transaction() as connection:
            connection.execute(_ONE_BY_ONE)
            return self._place(connection, credentials)

    def join(self, own: Identity) -> list[str]:
        """Become a replica of the fleet; return the older ones that this one has to wait for.

        Nothing was changed if there are any. Raises as ``check``.
        """
        with self._transaction() as connection:
            older = upgrade_fleet(connection, self._database, self._seconds)
            if not older:
                require_usable(connection, self._database)
                connection.execute(_ONE_BY_ONE)
                self._identify(connection, own)
                connection.execute(
                    placeholders("UPDATE fleet SET name = ? WHERE name = ''"), (own.name,)
                )
                self._place(connection, own.accounts)
        return older

    def _place(self, connection: Connection[Any], credentials: Mapping[str, str]) -> dict[str, int]:
        placed = self._placed(connection)
        shards = [shard for (shard,) in connection.execute("SELECT shard FROM lease")]
        chosen = placing(placed, credentials, shards)
        for account, shard in chosen.items():
            connection.execute(placeholders("INSERT INTO account VALUES (?, ?)"), (account, shard))
        return placed | chosen

    def upgrade(self) -> list[str]:
        """Upgrade all tables, if there are any; return the older replicas that must stop first.

        A shard that is owned is left to its owner, who has upgraded it.
        """
        with self._transaction() as connection:
            if not is_there(connection, self._database):
                return []
            older = upgrade_fleet(connection, self._database, self._seconds)
            rest = connection.execute(
                "SELECT shard FROM fence WHERE tables < (SELECT version FROM fleet)"
            ).fetchall()
        for (shard,) in rest:
            own = self.take(shard)
            if own is not None:
                self.release(own)
        return older

    def leave(self) -> None:
        """Live no more; what this replica knew of sinks is still remembered for an hour."""
        with self._transaction() as connection:
            connection.execute(placeholders(_LEAVE), (self._owner,))
            connection.execute(_OLD)


class _Line:
    """``Leases`` in a thread of their own: whoever waits for one line does not wait for another."""

    def __init__(self, leases: Leases, name: str) -> None:
        self._leases = leases
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(self, work: Callable[[Leases], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, self._leases)

    async def aclose(self) -> None:
        with suppress(RuntimeError):  # closed before
            await self.call(Leases.close)
        self._thread.shutdown(wait=False)


class SqlFleet:
    """The replicas on one database; implements ``core.lease.Fleet``."""

    def __init__(
        self,
        database: Database,
        owner: str,
        seconds: float,
        identity: Identity | None = None,
    ) -> None:
        """Connect to nothing yet; arguments as for ``Leases``.

        A replica has an ``identity``; who only asks the others for something has none.
        """
        self._database = database
        self._owner = owner
        self._seconds = seconds
        self._identity = identity
        self._joined = False
        self._older: Sequence[str] = ()
        self._own = Announcement("", None, (), Member(owner))
        # A take may wait for the transaction of a former owner; renewals must not wait for it.
        self._takes = _Line(Leases(database, owner, seconds), "journal-takes")
        self._renewals = _Line(Leases(database, owner, seconds), "journal-renewals")

    @property
    def name(self) -> str:
        """See ``Fleet``."""
        return self._owner

    async def place(self, credentials: Mapping[str, str]) -> Mapping[str, int]:
        """See ``Fleet``."""
        return await self._takes.call(lambda leases: leases.place(credentials))

    async def look(self) -> FleetState:
        """See ``Fleet``."""
        if not self._joined:
            await self.check()
        if self._older:
            return FleetState(older=self._older)
        own = self._own
        return await self._renewals.call(lambda leases: leases.look(own))

    def announce(self, settings: Announcement) -> None:
        """See ``Fleet``."""
        self._own = settings

    async def check(self) -> Sequence[str]:
        """Raise as ``Leases.check``; a replica joins the fleet by that.

        Returns the replicas of an older release, for which this one has to wait before it joins.
        """
        own = self._identity
        if own is None:
            await self._renewals.call(Leases.check)
            return ()
        self._older = await self._renewals.call(lambda leases: leases.join(own))
        self._joined = not self._older
        return self._older

    def lease(self, shard: int) -> ShardLease:
        """See ``Fleet``."""
        return ShardLease(self._takes, self._renewals, self._database, self._seconds, shard)

    async def ask(
        self, shard: int, command: str, given: Mapping[str, Any], *, patient: bool
    ) -> tuple[int, Any]:
        """See ``Fleet``."""
        wait = self._seconds + requests.PATIENCE
        return await requests.ask(self._database, shard, command, given, wait=wait, patient=patient)

    async def aclose(self) -> None:
        """Leave the fleet, give the connections back; idempotent."""
        with suppress(ForwarderError, RuntimeError):  # away, or closed before
            await self._renewals.call(Leases.leave)
        await self._takes.aclose()
        await self._renewals.aclose()


class ShardLease:
    """The right to one shard; implements ``core.lease.Lease``.

    The owner stops at its own deadline, which lies before the end of the lease by the clock of the
    database: so a process that was stopped, or is cut off, does no more than what was in flight.
    """

    def __init__(
        self, takes: _Line, renewals: _Line, database: Database, seconds: float, shard: int
    ) -> None:
        """Own nothing yet; ``seconds`` is how long a lease lasts."""
        self._takes = takes
        self._renewals = renewals
        self._database = database
        self._seconds = seconds
        self._shard = shard
        self._own: Ownership | None = None
        self._journal: PostgresJournal | None = None
        self._renewing: asyncio.Task[str] | None = None
        self._held: Held = (None, None)

    @property
    def shard(self) -> int:
        """See ``Lease``."""
        return self._shard

    async def take(self) -> Taken | None:
        """See ``Lease``."""
        asked_at = asyncio.get_running_loop().time()
        own = self._own = await self._takes.call(lambda leases: leases.take(self._shard))
        if own is None:
            return None
        self._renewing = asyncio.create_task(self._renew(own, asked_at), name="lease")
        return Taken(own.shard, own.epoch, own.former)

    async def open(self, keeping: Keeping, *, clock: Clock, emit: Emit) -> PostgresJournal:
        """See ``Lease``."""
        assert self._own is not None, "take comes first"  # noqa: S101  # nosec B101
        self._journal = await PostgresJournal.open(
            self._database, self._own, keeping, clock=clock, emit=emit
        )
        return self._journal

    def report(self, undelivered_bytes: int, stored_bytes: int) -> None:
        """See ``Lease``."""
        self._held = (undelivered_bytes, stored_bytes)

    async def lost(self) -> str:
        """See ``Lease``."""
        assert self._renewing is not None, "take comes first"  # noqa: S101  # nosec B101
        return await asyncio.shield(self._renewing)

    async def next_request(self) -> Request | None:
        """See ``Lease``."""
        assert self._own is not None, "take comes first"  # noqa: S101  # nosec B101
        assert self._journal is not None, "open comes next"  # noqa: S101  # nosec B101
        return await self._journal.next_request(self._own)

    async def answer(self, request: Request, status: int, content: Mapping[str, Any]) -> None:
        """See ``Lease``."""
        assert self._journal is not None, "open comes first"  # noqa: S101  # nosec B101
        await self._journal.answer(request, status, content)

    async def release(self) -> None:
        """See ``Lease``."""
        own, self._own, self._journal = self._own, None, None
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        if own is not None:
            # If the database is away now, the lease ends by itself.
            with suppress(ForwarderError):
                await self._renewals.call(lambda leases: leases.release(own))

    async def _renew(self, own: Ownership, asked_at: float) -> str:
        """Prolong the lease until that fails; return why."""
        loop, step = asyncio.get_running_loop(), self._seconds / 10
        deadline = asked_at + self._seconds - step
        while True:
            await asyncio.sleep(min(step, deadline - loop.time()))
            if self._journal is not None and self._journal.ended is not None:
                return str(self._journal.ended)
            asked_at = loop.time()
            # After a stop of the process this is first: nothing may be done on an old lease.
            if asked_at >= deadline:
                return "the lease is over: it could not be renewed in time"
            renewal = asyncio.ensure_future(
                self._renewals.call(lambda leases: leases.renew(own, self._held))
            )
            # Nobody asks for the answer of a renewal that came too late.
            renewal.add_done_callback(lambda late: late.cancelled() or late.exception())
            done, _ = await asyncio.wait({renewal}, timeout=deadline - asked_at)
            if not done:
                return "the lease is over: the database does not answer"
            with suppress(TransientError):
                if not renewal.result():
                    return "another replica has taken over"
                deadline = asked_at + self._seconds - step


def open_view(database: Database, shard: int) -> SqlJournalView:
    """Open a shard for reading, whether a replica owns it or not."""
    return SqlJournalView(JournalReader(PostgresEngine(database, shard)))


class StoppedShard:
    """A shard that this process has taken to copy it; implements ``copying.Stopped``.

    Its fence is held by one long transaction: nobody can take it before that ends.
    """

    def __init__(self, database: Database, leases: Leases, own: Ownership) -> None:
        """Begin the transaction."""
        self.name = f"schema {database.schema}"
        self.engine = PostgresEngine(database, own.shard)
        self.session = self.engine.writing(own)
        self._leases = leases
        self._own = own
        with self.engine.translated():
            self.session.begin()
            # The other journal may keep us waiting.
            self.session.execute("SET LOCAL idle_in_transaction_session_timeout = 0")

    def stay(self) -> None:
        """Prolong the lease, so that nobody tries."""
        if not self._leases.renew(self._own):
            raise StateError(f"another replica has taken {self.name} meanwhile")

    def settle(self) -> None:
        """Let identity columns continue after the highest id, and commit."""
        for table in _IDENTITIES:
            self.session.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            )
        self.session.commit()

    def put_aside(self, at: str) -> str:
        """Mark the journal as moved, which ``Leases.check`` refuses."""
        with self.engine.translated():
            self.session.execute("UPDATE fleet SET moved = ?", (at,))
            self.session.commit()
        return f"{self.name}, marked as moved"


@contextmanager
def stopped(database: Database, owner: str, seconds: float) -> Iterator[StoppedShard]:
    """Take the one shard to copy it, or to fill it; replicas see ``owner`` meanwhile.

    Raises ``LockedError`` while a replica has it, ``StateError``, ``TransientError``.
    """
    leases = Leases(database, owner, seconds)
    try:
        leases.check()
        holder, *more = leases.owners()
        if more:
            raise StateError(f"schema {database.schema} has several shards; only one can be copied")
        own = leases.take(0)
        if own is None:
            raise LockedError(
                f"{holder.owner} has the journal in schema {database.schema}. Stop all its "
                f"replicas; if one has died, wait {seconds:.0f} s"
            )
        try:
            shard = StoppedShard(database, leases, own)
            try:
                yield shard
            finally:
                shard.session.rollback()
                shard.session.close()
        finally:
            with suppress(ForwarderError):  # the lease ends by itself
                leases.release(own)
    finally:
        leases.close()
