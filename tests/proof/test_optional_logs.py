"""The audit log through the whole program: a quiet run is exact, and kills lose nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from forwarder.simulator.audit_log import SECRET
from tests.end_to_end.processes import until
from tests.proof.auditing import audited
from tests.proof.ledger import Ledger
from tests.proof.site import Site, account, site
from tests.proof.test_crashes import RANDOM, moments, one_life

_RATE = ("--rate", "0", "--scim-rate", "0", "--audit-rate", "8", "--history", "15m")
_STREAM = "account_audit"


def _books(folder: Path) -> Counter[str]:
    """Return how often each of Cloudflare's ids is in what was delivered."""
    lines = (folder / "audit.ndjson").read_bytes().splitlines(keepends=True)
    # A killed process leaves half a line behind; its rows come again.
    rows = [orjson.loads(line) for line in lines if line.endswith(b"}\n")]
    return Counter(row["id"] for row in rows if row["_forwarder"]["stream"] == _STREAM)


@asynccontextmanager
async def _site(folder: Path) -> AsyncIterator[Site]:
    sink = {"type": "file", "path": str(folder / "audit.ndjson"), "format": "raw"}
    more = {"start_at": "beginning", "batch": {"max_events": 200}}
    async with site(folder, {"file": sink | more}, *_RATE) as daemon:
        audit = {"poll_interval": "1s", "page_size": 100, "products": "all", "start_from": "15m"}
        audit["hold_back"] = "30s"
        daemon.settings["accounts"] = [account(daemon.api.url, streams={_STREAM: audit})]
        yield daemon


async def _control(daemon: Site, method: str, name: str, content: Any = None) -> Any:
    url = f"{daemon.api.url.removesuffix('/client/v4')}/_simulator/{name}"
    data = None if content is None else orjson.dumps(content)
    async with ClientSession() as session, session.request(method, url, data=data) as answer:
        return orjson.loads(await answer.read())


async def _fault(daemon: Site, kind: str, **more: Any) -> None:
    await _control(daemon, "POST", "faults", {"kind": kind, "stream": _STREAM, **more})


async def _shown(daemon: Site) -> set[str]:
    """Return the ids of all rows that the API has shown."""
    url = f"{daemon.api.url.removesuffix('/client/v4')}/_simulator/shown?stream={_STREAM}"
    async with ClientSession() as session, session.get(url) as answer:
        return {orjson.loads(line)["row"]["id"] async for line in answer.content}


async def _settled(daemon: Site, wait: float = 60.0) -> set[str]:
    """Return the ids shown until now, once all of them are delivered."""
    shown = await _shown(daemon)
    await until(lambda: shown <= _books(daemon.folder).keys(), wait)
    return shown


async def test_a_quiet_run_is_exact(tmp_path: Path, ledger: Ledger) -> None:
    async with _site(tmp_path) as daemon:
        await daemon.start()
        await daemon.running()
        # Every row appears seconds late from here on, some come in other orders and versions.
        await _fault(daemon, "late", seconds=4, share=0.5, times=None)
        await _fault(daemon, "amend", key="zone", value={"name": "a.example"}, count=20, times=3)
        await _fault(daemon, "twins", count=2, share=0.1, times=None)
        await _fault(daemon, "ignore_direction", share=0.2, times=None)
        await _fault(daemon, "repeat_cursor", share=0.2, times=None)
        await _fault(daemon, "empty_page", share=0.1, times=None)
        await _fault(daemon, "forget_cursors", share=0.1, times=None)
        await asyncio.sleep(20)
        await _control(daemon, "DELETE", "faults")
        shown = await _settled(daemon)
        assert await daemon.stop() == 0
        opinion = await audited(daemon)
        books = _books(tmp_path)

        assert shown <= books.keys()
        assert books.keys() <= await _shown(daemon)
        assert set(books.values()) == {1}
        assert SECRET not in (tmp_path / "audit.ndjson").read_text()
        ledger.row(
            "Audit log",
            "a quiet run with late, amended, repeated and reordered rows",
            times=1,
            events=len(shown),
            lost=0,
            again=books.total() - len(books),
            more=opinion,
        )


@pytest.mark.timeout(1800)
async def test_kills_lose_no_row_of_the_audit_log(tmp_path: Path, ledger: Ledger) -> None:
    rng, where = Random(18), Counter[str]()
    async with _site(tmp_path) as daemon:
        await _fault(daemon, "forget_cursors", share=0.05, times=None)
        for point in moments(50):
            # Nothing is refused here, and nothing is old enough to be pruned slowly.
            named = RANDOM if point.startswith(("dead", "batch", "prune", "journal")) else point
            where[await one_life(daemon, None, named, rng)] += 1
        await _control(daemon, "DELETE", "faults")
        await daemon.start()
        await daemon.running()
        shown = await _settled(daemon)
        assert await daemon.stop() == 0
        opinion = await audited(daemon)
        books = _books(tmp_path)

        assert shown <= books.keys()
        ledger.row(
            "Audit log",
            f"SIGKILL at {len(where)} points",
            times=where.total(),
            events=len(shown),
            lost=len(shown - books.keys()),
            again=books.total() - len(books),
            more=opinion,
        )
