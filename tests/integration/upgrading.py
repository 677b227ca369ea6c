"""Next versions of the tables, for tests; as a program, upgrades a schema to the last one."""

from __future__ import annotations

import sys

from forwarder.journal.fleet import Leases
from forwarder.journal.postgres import Database, Upgrade

LEASE = 2.0
_COLUMN = "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} TEXT DEFAULT 'new'; "
_WAIT = "SELECT pg_sleep(0.15); "
NEXT = (
    # A replica that knows nothing of the column could not even say that it lives.
    Upgrade(_COLUMN.format("replica", "zone") + _WAIT, _COLUMN.format("page", "note") + _WAIT),
    Upgrade(
        _WAIT
        + _COLUMN.format("account", "zone")
        + "ALTER TABLE replica ALTER COLUMN version DROP NOT NULL",
        _WAIT + _COLUMN.format("sink", "note"),
    ),
)
VERSION = 1 + len(NEXT)
"""Of the tables after these upgrades."""


def released(dsn: str, schema: str) -> Database:
    """Return the database as the program that ships sees it."""
    return Database(lambda: dsn, schema)


def newer(dsn: str, schema: str) -> Database:
    """Return the database as a program of a later release would see it."""
    first = released(dsn, schema)
    return Database(first.conninfo, schema, upgrades=(*first.upgrades, *NEXT))


if __name__ == "__main__":
    leases = Leases(newer(*sys.argv[1:]), "upgrading", LEASE)
    leases.owners()  # connects
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    try:
        leases.upgrade()
    finally:
        leases.close()
