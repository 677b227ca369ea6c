"""Who lost a shard of the PostgreSQL journal writes no more, whatever it believes."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from forwarder.core.contracts import LIVE
from forwarder.core.errors import TransientError
from forwarder.core.journal import Journal, Keeping
from forwarder.core.log import Progress
from forwarder.core.telemetry import ignore
from forwarder.journal.fleet import Leases, SqlFleet
from forwarder.journal.postgres import Ownership, PostgresJournal
from forwarder.testing.journal_contract import addition, records, verdict
from forwarder.testing.journal_crash import HOUR_US, NOON_US, WallClock
from forwarder.testing.journal_model import KEY
from forwarder.testing.network import ToxicProxy
from tests.integration.postgres_opener import PostgresOpener
from tests.integration.postgresql import Postgresql

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
_TABLES = ("page", "progress", "reader", "lane", "sink", "gap", "dead_letter", "counter", "memory")

_FULL = """
CREATE FUNCTION {0}.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON {0}.memory EXECUTE FUNCTION {0}.full();
"""


@pytest.fixture(params=["direct", "pooled"])
def opener(request: pytest.FixtureRequest, server: Postgresql) -> Iterator[PostgresOpener]:
    pooled = request.param == "pooled"
    reached = request.getfixturevalue("pooler") if pooled else server
    opener = PostgresOpener(reached.dsn, pooler=pooled)
    yield opener
    opener.discard()


@asynccontextmanager
async def journal_of(
    opener: PostgresOpener,
    ownership: Ownership | None = None,
    wrap: Callable[[Any], Any] = lambda session: session,
) -> AsyncIterator[PostgresJournal]:
    own = await asyncio.to_thread(opener.take) if ownership is None else ownership
    keeping = Keeping(2**30, HOUR_US)
    journal = await PostgresJournal.open(
        opener.database, own, keeping, clock=WallClock(), emit=ignore, patience=0.0, wrap=wrap
    )
    try:
        yield journal
    finally:
        await journal.aclose()


def contents(opener: PostgresOpener) -> dict[str, list[object]]:
    with opener.database.connect() as connection:
        schema = opener.database.shard_schema(0)
        return {
            table: connection.execute(f"SELECT * FROM {schema}.{table} ORDER BY 1, 2").fetchall()
            for table in _TABLES
        }


async def every_write(journal: Journal) -> None:
    """Try each method that writes; none may get through."""
    log = journal.stream_log(KEY)
    tries: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: log.append(addition(records(NOON_US + 9, first=9))),
        log.load,
        lambda: log.keep("key", 1),
        lambda: log.forget(LIVE),
        lambda: journal.sink_queue("new"),
        lambda: journal.forget_sink("siem"),
        journal.maintain,
        lambda: journal.append_own("", [{"event": "x"}]),
        lambda: journal.open_backfill("backfill:1", {}, []),
        lambda: journal.close_lane("backfill:1"),
        lambda: journal.replay("replay:1", "siem", NOON_US),
        lambda: journal.replay_letters("replay:2", "siem", None),
        lambda: journal.drop_letters("siem", None),
        lambda: journal.move_cursor(KEY, NOON_US),
        lambda: journal.keep("scope", "key", 1),
    )
    for attempt in tries:
        with pytest.raises(TransientError, match="writes no more"):
            await attempt()


async def test_a_former_owner_changes_nothing(opener: PostgresOpener) -> None:
    async with journal_of(opener) as former:
        queue = await former.sink_queue("siem")
        former.leave("siem")
        await former.stream_log(KEY).append(addition(records(NOON_US)))
        async with journal_of(opener) as owner:
            before = await asyncio.to_thread(contents, opener)

            await every_write(former)
            with pytest.raises(TransientError, match="writes no more"):
                await queue.acknowledge(LIVE, Progress(2))

            assert before == await asyncio.to_thread(contents, opener)
            assert former.ended is not None
            assert owner.ended is None
            assert {"shown": 1, "waiting": 1} == await verdict(owner, records(NOON_US))


async def test_a_state_that_went_back_ends_its_owner(opener: PostgresOpener) -> None:
    """A failover loses commits, and a pooler keeps the connection alive over it."""
    shard, fleet = opener.database.shard_schema(0), opener.database.schema
    async with journal_of(opener) as journal:
        queue = await journal.sink_queue("siem")
        with opener.database.connect() as connection:
            fence = connection.execute(f"SELECT version FROM {fleet}.fence").fetchone()
            await journal.stream_log(KEY).append(addition(records(NOON_US, NOON_US + 1)))
            connection.execute(f"DELETE FROM {shard}.page")
            connection.execute(f"UPDATE {shard}.counter SET next_offset = 1")
            connection.execute(f"UPDATE {fleet}.fence SET version = %s", fence)

        with pytest.raises(TransientError, match="went back"):
            await queue.acknowledge(LIVE, Progress(3))

    async with journal_of(opener) as again:
        new = await again.stream_log(KEY).append(addition(records(NOON_US, NOON_US + 1)))
        assert 2 == len(new.new)


async def test_an_epoch_that_is_given_out_again_does_not_let_its_old_owner_in(
    opener: PostgresOpener,
) -> None:
    """A failover lost the commit that gave epoch 2 out; somebody else takes epoch 2."""
    fleet = opener.database.schema
    async with journal_of(opener) as former:
        with opener.database.connect() as connection:
            connection.execute(f"UPDATE {fleet}.lease SET epoch = epoch - 1")
        own = await asyncio.to_thread(opener.take)
        async with journal_of(opener, own):
            with pytest.raises(TransientError, match="writes no more"):
                await former.keep("scope", "key", 1)


@pytest.mark.parametrize("opener", ["direct"], indirect=True)
async def test_a_lost_connection_ends_the_owner(server: Postgresql, opener: PostgresOpener) -> None:
    async with journal_of(opener) as journal:
        await journal.keep("scope", "key", 0)
        with psycopg.connect(server.dsn, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'forwarder' AND pid <> pg_backend_pid()"
            )

        with pytest.raises(TransientError):
            await journal.keep("scope", "key", 1)
        with pytest.raises(TransientError, match="writes no more"):
            await journal.keep("scope", "key", 1)
        # Whoever only reads connects again.
        assert 0 == await journal.recall("scope", "key")


async def test_a_commit_without_an_answer_ends_the_owner_whether_it_took_effect_or_not(
    opener: PostgresOpener,
) -> None:
    port = int(conninfo_to_dict(opener.dsn)["port"] or 0)
    with ToxicProxy(port) as proxy:
        dsn = make_conninfo(opener.dsn, port=proxy.port)
        behind = PostgresOpener(dsn, opener.database.schema, pooler=opener.database.pooler)
        async with journal_of(behind) as journal:
            await journal.keep("scope", "key", 1)
            proxy.hold = True
            writing = asyncio.create_task(journal.keep("scope", "key", 2))
            await asyncio.sleep(0.3)
            proxy.reset()
            proxy.hold = False

            with pytest.raises(TransientError):
                await writing
            assert journal.ended is not None
    async with journal_of(opener) as again:
        assert await again.recall("scope", "key") in {1, 2}


class Dozing:
    """A session whose process sleeps inside a transaction for longer than the server allows."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def execute(self, sql: str, values: Any = ()) -> Any:
        if sql.startswith("INSERT"):
            self._session.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
            time.sleep(0.5)  # noqa: TID251 - the writer's thread
        return self._session.execute(sql, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class Slow:
    """A session that does not commit before it may."""

    def __init__(self, session: Any, may: threading.Event) -> None:
        self._session = session
        self._may = may

    def commit(self) -> None:
        self._may.wait(10)
        self._session.commit()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


async def test_nobody_gets_an_answer_before_the_commit(opener: PostgresOpener) -> None:
    may = threading.Event()
    may.set()
    async with journal_of(opener, wrap=lambda session: Slow(session, may)) as journal:
        may.clear()
        writing = asyncio.create_task(journal.keep("scope", "key", 1))
        await asyncio.sleep(0.5)
        answered = writing.done()
        may.set()
        await writing

        assert not answered


async def test_a_session_that_the_server_ends_is_an_outage(opener: PostgresOpener) -> None:
    async with journal_of(opener, wrap=Dozing) as journal:
        with pytest.raises(TransientError, match="unavailable"):
            await journal.keep("scope", "key", 1)

        assert journal.ended is not None


async def test_a_full_disk_of_the_database_is_named_and_ends_nothing(
    opener: PostgresOpener,
) -> None:
    async with journal_of(opener) as journal:
        with opener.database.connect() as connection:
            connection.execute(_FULL.format(opener.database.shard_schema(0)))
        with pytest.raises(TransientError, match="is full: could not extend") as raised:
            await journal.keep("scope", "key", 1)
        trouble = journal.trouble
        with opener.database.connect() as connection:
            connection.execute(f"DROP FUNCTION {opener.database.shard_schema(0)}.full() CASCADE")
        await journal.keep("scope", "key", 1)

        assert raised.value.hint.startswith("free space")
        assert trouble is raised.value
        assert journal.trouble is None
        assert journal.ended is None


async def test_a_stopped_owner_inside_a_transaction_holds_nobody_up_for_long(
    opener: PostgresOpener,
) -> None:
    own = await asyncio.to_thread(opener.take)
    with closing(opener.database.connect()) as zombie:
        zombie.execute(
            f"BEGIN; {opener.database.path(0)}"
            "SET LOCAL idle_in_transaction_session_timeout = '5s'; "
            f"UPDATE fence SET version = version + 1 WHERE epoch = {own.epoch}"
        )
        started = asyncio.get_running_loop().time()
        taken = None
        while taken is None:
            try:
                taken = await asyncio.to_thread(opener.take)
            except TransientError:
                continue
        took = asyncio.get_running_loop().time() - started

        assert own.epoch < taken.epoch
        assert 12 > took


async def test_a_lease_belongs_to_one_until_it_is_over_or_given_back(
    opener: PostgresOpener,
) -> None:
    first, second = (Leases(opener.database, name, 1.0) for name in ("a", "b"))
    own = await asyncio.to_thread(first.take, 0)
    assert own is not None

    while_it_lasts = await asyncio.to_thread(second.take, 0)
    renewed = await asyncio.to_thread(first.renew, own)
    owners = [one.owner for one in await asyncio.to_thread(first.owners)]
    await asyncio.sleep(1.1)
    after = await asyncio.to_thread(second.take, 0)
    too_late = await asyncio.to_thread(first.renew, own)
    assert after is not None
    await asyncio.to_thread(second.release, after)
    given_back = await asyncio.to_thread(first.take, 0)

    for leases in (first, second):
        leases.close()
    assert (None, True, ["a"]) == (while_it_lasts, renewed, owners)
    assert not too_late
    assert given_back is not None


async def test_a_renewal_that_fails_when_the_lease_is_lost_already_is_not_reported(
    opener: PostgresOpener,
) -> None:
    surprises: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: surprises.append(context))
    fleet = SqlFleet(opener.database, "frozen", 1.0)
    lease = fleet.lease(0)
    assert await lease.take() is not None
    with closing(opener.database.connect()) as other:
        other.execute(f"BEGIN; LOCK TABLE {opener.database.home}.lease")

        why = await asyncio.wait_for(lease.lost(), 30)
        # The renewal waits for the lock until the server gives up.
        await fleet.aclose()
    gc.collect()
    await asyncio.sleep(0)

    assert "the lease is over: the database does not answer" == why
    assert [] == surprises
