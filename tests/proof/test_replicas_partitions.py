"""The network between replicas, their database, Cloudflare and SIEMs breaks: nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from forwarder.testing.network import ToxicProxy
from tests.end_to_end.processes import until
from tests.integration.postgresql import Postgresql
from tests.proof.ledger import Ledger
from tests.proof.replica_chaos import IDLE, TAKEN_WITHIN
from tests.proof.replicas import SCHEMA, Replicas, replicas
from tests.proof.site import Site

pytestmark = [pytest.mark.timeout(600), pytest.mark.alone]
_CUT = 10.0
_DOWN = 60.0
_SOON = 5.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@asynccontextmanager
async def wired(
    folder: Path, server: Postgresql, stack: ExitStack, to: str
) -> AsyncIterator[tuple[Replicas, dict[Site, ToxicProxy]]]:
    """Run replicas, each of which reaches ``to`` by a wire of its own."""
    async with replicas(folder, server.dsn) as running:
        wires = {}
        for member in running.members:
            ports = {
                "the database": server.port,
                "a SIEM": urlsplit(running.sinks.hec.url).port or 0,
                "Cloudflare": urlsplit(member.api.url).port or 0,
            }
            wires[member] = wire = stack.enter_context(ToxicProxy(ports[to]))
            if to == "the database":
                member.settings["journal"]["dsn"] = make_conninfo(server.dsn, port=wire.port)
            elif to == "a SIEM":
                member.settings["sinks"]["hec"]["url"] = f"http://127.0.0.1:{wire.port}"
            else:
                for one in member.settings["accounts"]:
                    one["api_url"] = f"http://127.0.0.1:{wire.port}/client/v4"
        await running.restart(*running.members)
        owner = await running.owned()
        await owner.running()
        await running.settled()
        yield running, wires


def cut(wire: ToxicProxy, how: str) -> None:
    """Break a wire."""
    match how:
        case "stalls":
            wire.hold = True
        case "loses everything":
            wire.swallow = True
        case "loses every answer, those to commits too":
            wire.answers_only = wire.swallow = True
        case "is reset and refused":
            wire.refuse()


def heal(wire: ToxicProxy) -> None:
    """Let bytes through again; what has lost some is broken off."""
    wire.hold = wire.swallow = wire.answers_only = False
    wire.reset()
    wire.accept()


@pytest.mark.parametrize(
    "how",
    [
        "stalls",
        "loses everything",
        "loses every answer, those to commits too",
        "is reset and refused",
    ],
)
async def test_an_owner_without_its_database_gives_way(
    how: str, server: Postgresql, tmp_path: Path, stack: ExitStack, ledger: Ledger
) -> None:
    async with wired(tmp_path, server, stack, "the database") as (running, wires):
        owner = await running.owned()
        cut(wires[owner], how)
        began = time.monotonic()
        await running.owned(by_other_than=owner)
        took = time.monotonic() - began
        await until(lambda: "journal_lost" in owner.errors(), 30)
        ended = time.monotonic() - began
        await asyncio.sleep(3)
        heal(wires[owner])
        shown, recovery = await running.settled()
        await running.stop()

        assert running.sinks.bulk.book.again == 0
        assert running.shared_epochs() == []
        assert took < TAKEN_WITHIN + IDLE
        await running.prove(
            ledger,
            f"the owner's connection to the database {how}",
            events=shown.total(),
            recovery=recovery,
            more=f"taken over within {took:.1f} s, the former owner ended its work within "
            f"{ended:.1f} s",
        )


@pytest.mark.parametrize("to", ["a SIEM", "Cloudflare"])
async def test_an_owner_that_is_cut_off_elsewhere_stays_the_owner(
    to: str, server: Postgresql, tmp_path: Path, stack: ExitStack, ledger: Ledger
) -> None:
    async with wired(tmp_path, server, stack, to) as (running, wires):
        owner = await running.owned()
        cut(wires[owner], "is reset and refused")
        await asyncio.sleep(_CUT)
        still = running.owner()
        heal(wires[owner])
        shown, recovery = await running.settled()

        assert still is owner
        await running.prove(
            ledger,
            f"the owner is cut off from {to} for {_CUT:.0f} s, others are not",
            events=shown.total(),
            recovery=recovery,
        )


async def test_an_owner_that_loses_its_journal_while_it_winds_down_ends_at_once(
    server: Postgresql, tmp_path: Path, stack: ExitStack
) -> None:
    """A SIEM that does not answer would let it drain for longer, while another has its shard."""
    async with wired(tmp_path, server, stack, "a SIEM") as (running, wires):
        owner = await running.owned()
        await owner.running()
        cut(wires[owner], "stalls")
        await asyncio.sleep(3)
        owner.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(1)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"UPDATE {SCHEMA}.lease SET expires_at = '-infinity'")
        ended = await owner.ended(within=_SOON)
        await running.owned(by_other_than=owner)
        heal(wires[owner])
        await running.restart(owner)
        await running.settled()
        await running.stop()
        left, _ = await running.judged()

        assert ended
        assert left == dict.fromkeys(running.books, 0)
        assert running.shared_epochs() == []


async def test_a_database_that_is_down_for_a_minute_is_waited_for(
    server: Postgresql, tmp_path: Path, ledger: Ledger
) -> None:
    async with replicas(tmp_path, server.dsn) as running:
        await running.settled()
        before = [member.process.pid for member in running.members]
        await asyncio.to_thread(server.stop, signal.SIGQUIT)
        await asyncio.sleep(_DOWN)
        await asyncio.to_thread(server.start)
        await running.owned()
        shown, recovery = await running.settled()
        alive = [one.process.pid for one in running.members if one.process.returncode is None]

        assert alive == before
        await running.prove(
            ledger,
            f"the database crashes and is away for {_DOWN:.0f} s",
            events=shown.total(),
            recovery=recovery,
        )
