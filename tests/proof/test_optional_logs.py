"""The logs that are off unless they are named: a quiet run is exact, and kills lose nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
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

Row = Mapping[str, Any]
Faults = tuple[Mapping[str, Any], ...]


def _fault(kind: str, times: int | None = None, **more: Any) -> Row:
    return {"kind": kind, "times": times, **more}


_LATE = _fault("late", seconds=4, share=0.5)
_OUTAGES = _fault("html", share=0.1)


@dataclass(frozen=True)
class Log:
    """A stream, the rate of its rows, its settings, and what goes wrong.

    ``disturbed`` strikes in the quiet run, ``killed`` between kills.
    """

    stream: str
    section: str
    rate: tuple[str, str]
    settings: Row
    disturbed: Faults
    killed: Faults

    def name(self, row: Row) -> str:
        """Return what tells a row, shown or delivered, from all others."""
        if self.stream == "account_audit":
            return str(row["id"])
        if self.stream == "jit_requests":
            step = row.get("event", row)
            keys = ("timestamp", "type", "actor_uuid")
            return repr([row["knock_request_id"], *(step[key] for key in keys)])
        own = {"count", "sampleInterval", "_forwarder"}
        return repr(sorted((key, value) for key, value in row.items() if key not in own))


_LOGS = (
    Log(
        "account_audit",
        "Audit log",
        ("--audit-rate", "8"),
        {"page_size": 100, "products": "all", "hold_back": "30s"},
        (
            _LATE,
            _fault("amend", 3, key="zone", value={"name": "a.example"}, count=20),
            _fault("twins", count=2, share=0.1),
            _fault("ignore_direction", share=0.2),
            _fault("repeat_cursor", share=0.2),
            _fault("empty_page", share=0.1),
            _fault("forget_cursors", share=0.1),
        ),
        (_fault("forget_cursors", share=0.05),),
    ),
    Log(
        "jit_requests",
        "Temporary access",
        ("--jit-rate", "0.3"),
        {"page_size": 20},
        # Each request is read by itself: of twenty that a page needs, one fails too often.
        (_fault("html", share=0.004),),
        (_fault("html", share=0.004),),
    ),
    Log(
        "non_identity_logins",
        "Logins without identity",
        ("--anonymous-rate", "8"),
        # Less than what an overlap holds, so that answers are full and time is halved.
        {"page_size": 60, "hold_back": "30s", "overlap": "30s"},
        (
            _LATE,
            _OUTAGES,
            _fault("amend", 5, count=20),
            _fault("twins", count=2, share=0.1),
        ),
        (_OUTAGES, _LATE),
    ),
)
_BY_STREAM = pytest.mark.parametrize("log", _LOGS, ids=lambda log: log.stream)
_OTHERS = ("--rate", "0", "--scim-rate", "0", "--history", "15m")


class Watched:
    """A daemon that reads one of the logs, and what its sink has of it."""

    def __init__(self, daemon: Site, log: Log) -> None:
        self.daemon = daemon
        self._log = log
        self._path = daemon.folder / "log.ndjson"

    def books(self) -> Counter[str]:
        """Return how often each row is in what was delivered."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        # A killed process leaves half a line behind; its rows come again.
        rows = [orjson.loads(line) for line in lines if line.endswith(b"}\n")]
        named = (row for row in rows if row["_forwarder"]["stream"] == self._log.stream)
        return Counter(map(self._log.name, named))

    async def fault(self, *faults: Row) -> None:
        """Let something go wrong at this log from now on."""
        for fault in faults:
            await self._control("POST", "faults", {"stream": self._log.stream, **fault})

    async def end_faults(self) -> None:
        """Let nothing go wrong any more."""
        await self._control("DELETE", "faults")

    async def shown(self) -> set[str]:
        """Return all rows that the API has shown."""
        answer = await self._control("GET", f"shown?stream={self._log.stream}")
        return {self._log.name(orjson.loads(line)["row"]) for line in answer.splitlines()}

    async def settled(self, wait: float = 60.0) -> set[str]:
        """Return the rows shown until now, once all of them are delivered."""
        shown = await self.shown()
        await until(lambda: shown <= self.books().keys(), wait)
        return shown

    async def _control(self, method: str, name: str, content: Any = None) -> bytes:
        url = f"{self.daemon.api.url.removesuffix('/client/v4')}/_simulator/{name}"
        data = None if content is None else orjson.dumps(content)
        async with ClientSession() as session, session.request(method, url, data=data) as answer:
            return await answer.read()


@asynccontextmanager
async def _watched(folder: Path, log: Log) -> AsyncIterator[Watched]:
    sink = {"type": "file", "path": str(folder / "log.ndjson"), "format": "raw"}
    more = {"start_at": "beginning", "batch": {"max_events": 200}}
    async with site(folder, {"file": sink | more}, *_OTHERS, *log.rate) as daemon:
        streams = {log.stream: {"poll_interval": "1s", "start_from": "15m", **log.settings}}
        daemon.settings["accounts"] = [account(daemon.api.url, streams=streams)]
        yield Watched(daemon, log)


@_BY_STREAM
async def test_a_quiet_run_is_exact(log: Log, tmp_path: Path, ledger: Ledger) -> None:
    async with _watched(tmp_path, log) as watched:
        daemon = watched.daemon
        await daemon.start()
        await daemon.running()
        # From here on rows appear late, come in other orders and versions, or not at once.
        await watched.fault(*log.disturbed)
        await asyncio.sleep(20)
        await watched.end_faults()
        shown = await watched.settled()
        assert await daemon.stop() == 0
        opinion = await audited(daemon)
        books = watched.books()

        assert shown
        assert shown <= books.keys()
        assert books.keys() <= await watched.shown()
        assert set(books.values()) == {1}
        assert SECRET not in (tmp_path / "log.ndjson").read_text()
        ledger.row(
            log.section,
            f"a quiet run with faults: {', '.join(sorted(one['kind'] for one in log.disturbed))}",
            times=1,
            events=len(shown),
            lost=0,
            again=books.total() - len(books),
            more=opinion,
        )


@_BY_STREAM
@pytest.mark.timeout(1800)
async def test_kills_lose_no_row(log: Log, tmp_path: Path, ledger: Ledger) -> None:
    rng, where = Random(18), Counter[str]()
    async with _watched(tmp_path, log) as watched:
        daemon = watched.daemon
        await watched.fault(*log.killed)
        for point in moments(50):
            # Nothing is refused here, and nothing is old enough to be pruned slowly.
            named = RANDOM if point.startswith(("dead", "batch", "prune", "journal")) else point
            where[await one_life(daemon, None, named, rng)] += 1
        await watched.end_faults()
        await daemon.start()
        await daemon.running()
        shown = await watched.settled()
        assert await daemon.stop() == 0
        opinion = await audited(daemon)
        books = watched.books()

        assert shown <= books.keys()
        ledger.row(
            log.section,
            f"SIGKILL at {len(where)} points",
            times=where.total(),
            events=len(shown),
            lost=len(shown - books.keys()),
            again=books.total() - len(books),
            more=opinion,
        )
