"""Two forwarders on one schema are a fault of the settings; a change of settings is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder.config import load
from forwarder.journal.postgres import Database
from forwarder.journal.tables import create
from forwarder.runtime.inspection import diagnose
from tests.end_to_end.processes import ACCOUNT, Cloudflare, Forwarder, cloudflare, until
from tests.integration.postgresql import Postgresql

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
OTHER, THIRD = "b" * 32, "c" * 32


def site(
    folder: Path,
    api: Cloudflare,
    journal: dict[str, Any],
    accounts: Sequence[str] = (ACCOUNT,),
    sink: str = "console",
) -> Forwarder:
    folder.mkdir()
    forwarder = Forwarder(folder, api.url)
    settings = yaml.safe_load(forwarder.settings.read_text())
    (account,) = settings["accounts"]
    settings["accounts"] = [account | {"account_id": one, "name": one[:4]} for one in accounts]
    settings["sinks"] = {sink: {"type": "null"}}
    settings["journal"] = {"type": "postgres", "lease": "2s"} | journal
    forwarder.settings.write_text(yaml.safe_dump(settings))
    return forwarder


async def refused(forwarder: Forwarder) -> str:
    """Return what ``check --live`` and ``run`` say about settings of another fleet."""
    (finding,) = [
        one for one in await diagnose(load(forwarder.settings, {})) if one.subject == "journal"
    ]
    await forwarder.start()
    status = await asyncio.wait_for(forwarder.process.wait(), 30)

    assert ("fault", 2) == (finding.level, status), forwarder.errors()
    assert finding.text in forwarder.errors()
    assert finding.hint in forwarder.errors()
    return finding.text


async def joins(forwarder: Forwarder) -> None:
    await forwarder.start()
    await until(lambda: "standing_by" in forwarder.errors(), 30)
    await asyncio.sleep(1)

    assert forwarder.process.returncode is None
    assert "another forwarder" not in forwarder.errors()


async def test_a_fleet_with_other_accounts_is_refused_and_a_change_of_settings_is_not(
    server: Postgresql, tmp_path: Path
) -> None:
    create(Database(lambda: server.dsn, "shared"))
    journal = {"dsn": server.dsn, "schema": "shared"}
    async with cloudflare("--rate", "1") as api:
        first = site(tmp_path / "first", api, journal)
        changed = site(tmp_path / "changed", api, journal, (ACCOUNT, THIRD), sink="other")
        later = site(tmp_path / "later", api, journal, (THIRD,), sink="last")
        try:
            await first.start()
            await until(first.has_started)
            said = await refused(site(tmp_path / "second", api, journal, (OTHER,)))
            for member in (changed, later):
                await joins(member)
            assert await first.stop() == 0
            await until(lambda: changed.has_started() or later.has_started(), 30)
        finally:
            for member in (first, changed, later):
                if hasattr(member, "process"):
                    await member.kill()

    assert f"it has account {ACCOUNT}, and none of the accounts of these settings" in said


async def test_a_fleet_has_the_name_of_its_first_named_replica(
    server: Postgresql, tmp_path: Path
) -> None:
    create(Database(lambda: server.dsn, "named"))
    journal = {"dsn": server.dsn, "schema": "named"}
    east, west = (journal | {"fleet": name} for name in ("east", "west"))
    async with cloudflare("--rate", "1") as api:
        members = [
            site(tmp_path / "unnamed", api, journal),
            site(tmp_path / "named", api, east),
            site(tmp_path / "replaced", api, east, (OTHER,)),
            site(tmp_path / "behind", api, journal),
        ]
        try:
            for member in members:
                await joins(member)
            said = await refused(site(tmp_path / "west", api, west))
        finally:
            for member in members:
                if hasattr(member, "process"):
                    await member.kill()

    assert "its name is east, that of these settings is west" in said
