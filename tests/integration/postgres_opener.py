"""Opens PostgreSQL journals for the contract: a schema each, in one server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

from forwarder.core.journal import Journal, Keeping
from forwarder.core.telemetry import Emit
from forwarder.core.timing import Clock
from forwarder.journal.fleet import Leases
from forwarder.journal.postgres import Database, Ownership, PostgresJournal
from forwarder.journal.tables import create

_NUMBERS = count()
# Over at once: every opening takes the shard from the one before.
OVER = -1.0


class PostgresOpener:
    """One journal in schemas of its own."""

    def __init__(self, dsn: str, schema: str = "", *, pooler: bool = False) -> None:
        self.dsn = dsn
        self.database = Database(lambda: dsn, schema or f"test_{next(_NUMBERS)}", pooler)
        create(self.database)

    def take(self, owner: str = "test") -> Ownership:
        leases = Leases(self.database, owner, OVER)
        try:
            own = leases.take(0)
        finally:
            leases.close()
        assert own is not None
        return own

    async def open(
        self, keeping: Keeping, *, clock: Clock, emit: Emit, wrap: Callable[[Any], Any]
    ) -> Journal:
        own = await asyncio.to_thread(self.take)
        return await PostgresJournal.open(
            self.database, own, keeping, clock=clock, emit=emit, patience=0.0, wrap=wrap
        )

    def discard(self) -> None:
        with self.database.connect() as connection:
            for schema in (self.database.shard_schema(0), self.database.home):
                connection.execute(f"DROP SCHEMA {schema} CASCADE")
