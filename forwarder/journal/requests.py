"""Requests: what a command asks the owner of a shard to do, through a table of the database.

A request is done at most once. The owner notes in a fenced transaction that it has taken it, then
carries it out, then answers. Whoever asks may withdraw it for as long as nobody has taken it; and
one that is past its time is never taken.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from forwarder.core.errors import FreeShardError, StateError, TransientError
from forwarder.journal.postgres import LIMITS, Database, placeholders, translated

_LOOK = 0.2
PATIENCE = 30.0
"""Seconds for an owner to take a request, beside what a lease lasts, and again to answer it."""
_UNKNOWN = "it is unknown if the request takes effect. Check that before you repeat it"
_MAKE = """
INSERT INTO request (id, shard, command, given, until)
VALUES (?, ?, ?, ?, clock_timestamp() + ? * interval '1 second')
"""
_OLD = "DELETE FROM request WHERE until < clock_timestamp() - interval '1 day'"
_LOOKED = """
SELECT request.epoch, request.answer, lease.epoch, lease.owner, expires_at < clock_timestamp()
FROM request JOIN lease ON lease.shard = request.shard WHERE request.id = ?
"""
_WITHDRAW = "DELETE FROM request WHERE id = ? AND epoch IS NULL"
_FORGET = "DELETE FROM request WHERE id = ?"


class Look(NamedTuple):
    """A request as whoever asks sees it, and the lease of its shard.

    ``taken`` is the epoch of the owner that has taken it, or None; ``owner`` is empty if the latest
    owner has given the shard back; ``free`` if its lease is over.
    """

    taken: int | None
    answer: str | None
    epoch: int
    owner: str
    free: bool

    @property
    def lost(self) -> bool:
        """True if whoever has taken it will never answer: it owns the shard no more."""
        return self.taken is not None and (self.epoch != self.taken or not self.owner)


class Asking:
    """One request to the owner of a shard, from anywhere; its methods block."""

    def __init__(self, database: Database, shard: int) -> None:
        """Ask nothing yet."""
        self._database = database
        self._shard = shard
        self._id = secrets.token_hex(8)
        self._connection: Any = None

    def make(self, command: str, given: Mapping[str, Any], wait: float) -> None:
        """Store the request; nobody takes it after ``wait`` seconds."""
        self._run(_OLD)
        text = orjson.dumps(dict(given)).decode()
        self._run(_MAKE, self._id, self._shard, command, text, wait)

    def look(self) -> Look:
        """Return its state, and who owns the shard."""
        return Look(*(self._run(_LOOKED, self._id).fetchone() or (0, None, -1, "", True)))

    def withdraw(self) -> bool:
        """Take it back; False if an owner was faster."""
        return bool(self._run(_WITHDRAW, self._id).rowcount)

    def close(self) -> None:
        """Leave no row behind, if the database answers; idempotent."""
        if self._connection is not None:
            with suppress(TransientError):  # a row that is left is past its time soon
                self._run(_FORGET, self._id)
            self._connection.close()

    def _run(self, sql: str, *values: Any) -> Any:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect()
        connection = self._connection
        with translated(), connection.transaction():
            connection.execute(f"SET LOCAL search_path = {self._database.home}; {LIMITS}")
            return connection.execute(placeholders(sql), values)


async def ask(
    database: Database,
    shard: int,
    command: str,
    given: Mapping[str, Any],
    *,
    wait: float,
    patient: bool,
) -> tuple[int, Any]:
    """See ``core.lease.Fleet``; ``wait`` is how long an owner may need to take the request."""
    asking = Asking(database, shard)
    try:
        await asyncio.to_thread(asking.make, command, given, wait)
        return await _answered(asking, wait, patient=patient)
    finally:
        await asyncio.to_thread(asking.close)


async def _answered(asking: Asking, wait: float, *, patient: bool) -> tuple[int, Any]:
    clock = asyncio.get_running_loop()
    until, was_taken = clock.time() + wait, False
    while True:
        late = clock.time() > until
        try:
            look = await asyncio.to_thread(asking.look)
            if look.answer is not None:
                status, content = orjson.loads(look.answer)
                return int(status), content
            if look.taken is not None:
                _raise_if_hopeless(look, late=late and was_taken)
                if not was_taken:
                    was_taken, until = True, clock.time() + PATIENCE
            elif (late or (look.free and not patient)) and await asyncio.to_thread(asking.withdraw):
                raise _not_taken(wait, late=late)
        except TransientError as error:
            if late:
                raise TransientError(f"{error}; {_UNKNOWN}") from error
        await asyncio.sleep(_LOOK)


def _raise_if_hopeless(look: Look, *, late: bool) -> None:
    if look.lost:
        who = "the replica that took the request"
        raise StateError(f"{who} stopped before it answered; {_UNKNOWN}")
    if late:
        raise StateError(f"{look.owner} took the request and has not answered; {_UNKNOWN}")


def _not_taken(wait: float, *, late: bool) -> StateError:
    if not late:
        return FreeShardError("no replica has the journal at present; start one")
    return StateError(
        f"no replica took the request within {wait:.0f} s; it was withdrawn, and nothing was "
        "changed. Start a replica, then repeat the command"
    )
