"""Replicas of a shared journal whose settings are reloaded while their shards come and go."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from random import Random
from typing import NoReturn

import psutil
import psycopg
import pytest
import yaml

from forwarder.config.loading import load
from forwarder.core.timing import SystemClock
from forwarder.journal.postgres import Database
from forwarder.journal.tables import create
from forwarder.runtime.daemon import Daemon
from forwarder.runtime.replica import Signals, telemetry_of
from tests.end_to_end.processes import Forwarder, until
from tests.integration.postgresql import Postgresql
from tests.integration.test_shards import SHARDS, ShardedFleet, sharded

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
_ROUNDS = 20


def change(member: Forwarder, accounts: int, extra: int) -> None:
    """Write settings with the first of a replica's accounts and so many sinks more; reload them."""
    settings = yaml.safe_load((member.folder / "whole.yaml").read_text())
    settings["accounts"] = settings["accounts"][:accounts]
    settings["sinks"] |= {f"extra-{n}": {"type": "null", "format": "raw"} for n in range(extra)}
    fresh = member.settings.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(settings))
    fresh.replace(member.settings)
    member.process.send_signal(signal.SIGHUP)


def end_sessions(server: Postgresql, member: Forwarder, random: Random) -> None:
    """End some sessions of a replica, as an administrator would: it loses the shards of these."""
    found = psutil.Process(member.process.pid).net_connections("tcp")
    ports = [one.laddr.port for one in found if getattr(one.raddr, "port", 0) == server.port]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port = ANY(%s)",
            (random.sample(ports, min(3, len(ports))),),
        )


async def churned(fleet: ShardedFleet, member: Forwarder, server: Postgresql) -> None:
    random = Random(17)
    for _ in range(_ROUNDS):
        change(member, random.randint(4, 8), random.randint(0, 3))
        await asyncio.sleep(random.uniform(0, 0.4))
        await asyncio.to_thread(end_sessions, server, member, random)
        await asyncio.sleep(random.uniform(0, 0.8))
    change(member, 8, 1)
    await until(
        lambda: fleet.held()[str(member.process.pid)] == SHARDS or member.process.returncode
    )


async def test_settings_that_change_while_shards_are_lost_and_taken_end_nothing(
    server: Postgresql, tmp_path: Path
) -> None:
    async with sharded(tmp_path, server, "churned", 8, 4) as fleet:
        member = fleet.members[0]
        (member.folder / "whole.yaml").write_text(member.settings.read_text())
        await member.start()
        await fleet.balanced()
        await until(member.has_started)

        await churned(fleet, member, server)
        lost = await fleet.lost()
        ended = member.process.returncode

    events = [line["event"] for line in member.log()]
    assert ended is None
    assert 0 == lost
    assert _ROUNDS / 4 < events.count("journal_lost")
    assert "task_crashed" not in events
    assert "Traceback" not in member.errors()


async def test_a_fault_of_the_program_at_a_reload_ends_a_replica_with_its_error(
    server: Postgresql, tmp_path: Path
) -> None:
    assert 1 == await asyncio.to_thread(create, Database(lambda: server.dsn, "faulty"))
    written = Forwarder(tmp_path, "http://127.0.0.1:1/client/v4").settings
    journal = {"type": "postgres", "dsn": server.dsn, "schema": "faulty"}
    written.write_text(yaml.safe_dump(yaml.safe_load(written.read_text()) | {"journal": journal}))
    settings, signals = load(written, {}), Signals()

    def faulty() -> NoReturn:
        raise ZeroDivisionError("a fault of the program")

    daemon = Daemon(settings, faulty, telemetry_of(settings), signals, SystemClock())
    running = asyncio.create_task(daemon.run())
    await asyncio.wait_for(daemon.running.wait(), 60)
    signals.ask_to_reload()

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 60)
