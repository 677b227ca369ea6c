"""One answer as large as any may be: it is delivered, in little memory, and blocks nobody."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.proof.ledger import Ledger
from tests.proof.measuring import MIB
from tests.proof.site import Site, site

ROWS = 1000
MEMBERS = 640
MOST_MEMORY = 300.0
"""MiB, the highest that the process ever had."""
SLOWEST = 1.0
"""Seconds that /livez may take."""
WAIT = 240.0
_GROUP = re.compile(rb"\bgroup-\d+\b")


def change_of_a_group(number: int, idp: str) -> dict[str, Any]:
    """Return a SCIM change of 61 kB that adds 640 members to a group."""
    rng = Random(number)
    members = [
        {"value": f"{rng.getrandbits(128):032x}", "display": f"user-{rng.getrandbits(64):016x}"}
        for _ in range(MEMBERS)
    ]
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "add", "path": "members", "value": members}],
    }
    at = datetime.now(UTC) - timedelta(minutes=5) + timedelta(milliseconds=100 * number)
    return {
        "cf_resource_id": f"{rng.getrandbits(128):032x}",
        "http_method": "PATCH",
        "idp_id": idp,
        "idp_resource_id": f"g-{number}",
        "logged_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request_body": orjson.dumps(body).decode(),
        "resource_group_name": f"group-{number}",
        "resource_type": "GROUP",
        "status": "SUCCESS",
    }


class Probe:
    """How long /livez takes."""

    def __init__(self) -> None:
        self.slowest = 0.0

    @asynccontextmanager
    async def watching(self, daemon: Site) -> AsyncIterator[None]:
        """Ask again and again while the block runs."""
        task = asyncio.create_task(self._ask(daemon))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _ask(self, daemon: Site) -> None:
        async with ClientSession(timeout=ClientTimeout(total=60)) as http:
            while True:
                url = next(
                    (one["url"] for one in daemon.log() if one["event"] == "admin_listening"), None
                )
                began = time.monotonic()
                if url is not None:
                    with suppress(ClientError):
                        async with http.get(f"{url}/livez"):
                            self.slowest = max(self.slowest, time.monotonic() - began)
                await asyncio.sleep(0.1)


def highest_memory(daemon: Site) -> float:
    """Return the most MiB that the process ever had."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MIB


async def add_changes(daemon: Site) -> None:
    """Add the rows to the simulator, in portions that it takes."""
    base = daemon.api.url.removesuffix("/client/v4")
    async with ClientSession() as http:
        async with http.get(f"{base}/_simulator/state") as answer:
            state = await answer.json()
        (account,) = state["accounts"]
        idp = state["accounts"][account][0]["id"]
    for first in range(0, ROWS, 10):
        rows = [change_of_a_group(number, idp) for number in range(first, first + 10)]
        await daemon.api.command(
            "rows", {"account": account, "stream": "scim_updates", "rows": rows}
        )


async def groups_in(file: Path) -> Counter[str]:
    """Return how often each group's change is in a sink's file."""
    # Beside the loop, which measures how fast the daemon answers.
    await asyncio.sleep(3)
    return await asyncio.to_thread(_groups_in, file)


def _groups_in(file: Path) -> Counter[str]:
    if not file.exists():
        return Counter()
    with file.open("rb") as lines:
        whole = (line for line in lines if line.endswith(b"\n"))
        return Counter(found[0].decode() for line in whole if (found := _GROUP.search(line)))


@pytest.mark.alone
async def test_an_answer_of_sixty_megabytes_is_delivered_in_little_memory(
    tmp_path: Path, ledger: Ledger
) -> None:
    files = {name: tmp_path / f"{name}.ndjson" for name in ("ocsf", "ecs")}
    sinks = {
        name: {"type": "file", "path": str(file), "format": name, "start_at": "beginning"}
        | {"max_size": 0}
        for name, file in files.items()
    }
    wanted = {f"group-{number}" for number in range(ROWS)}
    probe = Probe()
    async with site(
        tmp_path, sinks, "--rate", "0", "--scim-rate", "0", "--history", "0s"
    ) as daemon:
        await add_changes(daemon)
        async with probe.watching(daemon):
            await daemon.start()
            await daemon.running()
            async with asyncio.timeout(WAIT):
                while not await groups_in(files["ocsf"]):
                    pass
            before_kill = highest_memory(daemon)
            daemon.kill()
            await daemon.process.wait()
            await daemon.start()
            await daemon.running()
            async with asyncio.timeout(WAIT):
                while any([wanted - (await groups_in(file)).keys() for file in files.values()]):
                    pass
            after_restart = highest_memory(daemon)
        code = await daemon.stop()

    ledger.row(
        "Load",
        "one answer of 60 MB: 1,000 SCIM changes of 61 kB, two sinks, killed once",
        events=ROWS,
        lost=0,
        more=f"highest memory {before_kill:.0f} and {after_restart:.0f} MiB, "
        f"slowest /livez {probe.slowest:.2f} s",
    )
    assert code == 0
    assert max(before_kill, after_restart) <= MOST_MEMORY
    assert probe.slowest <= SLOWEST
