"""What runs in a cell follows the settings in force, whatever else happens to the cell."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import yaml

from forwarder.config import ForwarderSettings
from forwarder.config.document import parse_document
from forwarder.config.loading import build
from forwarder.config.plugins import InstalledPlugins
from forwarder.core.errors import TransientError
from forwarder.core.timing import SystemClock
from forwarder.journal.database import FILE_NAME
from forwarder.runtime.cell import Cell
from forwarder.runtime.replica import Replica, telemetry_of
from forwarder.testing.network import free_port
from tests.end_to_end.processes import ACCOUNT

OTHER = "f" * 32


class Hasty(SystemClock):
    """A clock on which every wait is over at once."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.001))


def settings(folder: Path, *accounts: str, **sinks: dict[str, Any]) -> ForwarderSettings:
    """Return settings with these sinks; nobody answers the accounts' requests."""
    written = {
        "version": 1,
        "state_dir": str(folder),
        "journal": {"keep_delivered": "0s"},
        "accounts": [
            {"account_id": one, "api_token": "t", "api_url": "http://127.0.0.1:1/client/v4"}
            for one in accounts or [ACCOUNT]
        ],
        "sinks": sinks,
    }
    return build(parse_document(yaml.safe_dump(written), "config.yaml"), {}, InstalledPlugins())


def null(max_events: int = 10) -> dict[str, Any]:
    return {"type": "null", "batch": {"max_events": max_events}}


def running(cell: Cell) -> tuple[dict[str, int | None], set[str]]:
    """Return the largest batch of each sink whose task runs, and the accounts with a task."""
    tasks = {one.name for one in cell.supervisor.states()}
    sinks = {
        name: sink.options.batch.max_events
        for name, sink in cell.sinks.settings.items()
        if f"sink:{name}" in tasks
    }
    streams = {name.removeprefix("stream:") for name in tasks if name.startswith("stream:")}
    return sinks, {name.partition("/")[0] for name in streams}


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    first = settings(tmp_path / "state", kept=null(), changed=null(), removed=null())
    return Replica(first, telemetry_of(first), SystemClock())


@contextmanager
def without_writes(folder: Path) -> Iterator[None]:
    """Let nobody write to a journal's file."""
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_settings_that_come_while_a_cell_starts_are_followed_by_the_upkeep(
    replica: Replica, tmp_path: Path
) -> None:
    async with Cell.opened(replica) as cell:
        starting = asyncio.create_task(cell.start())
        while not cell.sinks.settings:  # noqa: ASYNC110 - a moment later would be too late
            await asyncio.sleep(0)
        replica.adopt(
            settings(tmp_path / "state", OTHER, kept=null(), changed=null(20), added=null()), ()
        )
        await cell.follow()
        await starting
        await cell.maintain()

        assert ({"kept": 10, "changed": 20, "added": 10}, {OTHER}) == running(cell)


async def test_a_change_that_failed_half_way_leaves_nothing_stopped_or_started_for_good(
    replica: Replica, tmp_path: Path
) -> None:
    first = replica.settings
    async with Cell.opened(replica) as cell:
        await cell.start()
        replica.adopt(settings(tmp_path / "state", kept=null(), changed=null(20), new=null()), ())
        with without_writes(tmp_path / "state"), pytest.raises(TransientError):
            await cell.follow()
        # The operator takes the change back.
        replica.adopt(first, ())
        await cell.maintain()

        assert ({"kept": 10, "changed": 10, "removed": 10}, {ACCOUNT}) == running(cell)


async def test_after_a_change_that_failed_what_the_settings_name_no_longer_stops(
    replica: Replica, tmp_path: Path
) -> None:
    async with Cell.opened(replica) as cell:
        await cell.start()
        replica.adopt(settings(tmp_path / "state", kept=null(), new=null(), removed=null()), ())
        with without_writes(tmp_path / "state"), pytest.raises(TransientError):
            await cell.follow()
        replica.adopt(settings(tmp_path / "state", OTHER, kept=null()), ())
        await cell.maintain()

        assert ({"kept": 10}, {OTHER}) == running(cell)


async def test_a_change_that_fails_keeps_the_upkeep_from_nothing(
    replica: Replica, tmp_path: Path
) -> None:
    """The change may need the room that the upkeep makes."""
    async with Cell.opened(replica) as cell:
        await cell.start()
        with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON sink BEGIN SELECT raise(ABORT, 'full'); END"
            )
        replica.adopt(settings(tmp_path / "state", kept=null(), another=null()), ())
        with pytest.raises(sqlite3.IntegrityError):
            await cell.maintain()

        assert await cell.journal.recall("runtime", "shared:cloudflare_access") is not None


@asynccontextmanager
async def taking_nothing() -> AsyncIterator[tuple[dict[str, Any], asyncio.Event]]:
    """Give a sink whose writes are never answered, and what is set when one has begun."""
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield {"type": "http", "url": f"http://127.0.0.1:{port}/"}, asked


async def test_the_end_of_a_cell_does_not_wait_for_a_change_that_drains_a_sink(
    tmp_path: Path,
) -> None:
    async with taking_nothing() as (http, asked):
        first = settings(tmp_path / "state", slow=http)
        replica = Replica(first, telemetry_of(first), SystemClock())
        async with Cell.opened(replica) as cell:
            await cell.start()
            await asked.wait()
            replica.adopt(settings(tmp_path / "state", OTHER, none=null()), ())
            following = asyncio.create_task(cell.follow())
            await asyncio.sleep(0.1)
            began = monotonic()
        await following
        took = monotonic() - began

    assert 5 > took
    assert ({}, set()) == running(cell)
    assert not cell.started


async def test_nothing_that_a_sink_waits_for_is_given_up_before_it_has_joined(
    tmp_path: Path,
) -> None:
    """A start may take longer than the pause between two looks at what may go: a slow disk."""
    nobody = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/"}
    first = settings(tmp_path / "state", last=nobody)
    async with Cell.opened(Replica(first, telemetry_of(first), SystemClock())) as cell:
        await cell.start()
    second = settings(tmp_path / "state", first=null(), last=nobody)
    async with Cell.opened(Replica(second, telemetry_of(second), Hasty())) as cell:
        with without_writes(tmp_path / "state"):
            starting = asyncio.create_task(cell.start())
            await asyncio.sleep(0.1)
        await starting
        gaps = await cell.journal.gaps()
        (waiting,) = [one.backlog for one in await cell.journal.places() if one.sink == "last"]

    assert [] == gaps
    assert 2 == waiting


async def test_a_change_whose_caller_was_cancelled_ends_before_the_next_one_begins(
    tmp_path: Path,
) -> None:
    async with taking_nothing() as (http, asked):
        first = settings(tmp_path / "state", slow=http, kept=null())
        replica = Replica(first, telemetry_of(first), SystemClock())
        async with Cell.opened(replica) as cell:
            await cell.start()
            await asked.wait()
            replica.adopt(settings(tmp_path / "state", kept=null(20)), ())
            following = asyncio.create_task(cell.follow())
            await asyncio.sleep(0.1)
            following.cancel()
            replica.adopt(settings(tmp_path / "state", OTHER, slow=null(), kept=null(30)), ())
            await cell.follow()

            assert ({"slow": 10, "kept": 30}, {OTHER}) == running(cell)
