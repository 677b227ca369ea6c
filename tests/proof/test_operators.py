"""Whatever operators do, in any order: every row is delivered, dead, or lost with a record.

Commands, settings that gain and lose sinks at a SIGHUP, SIGKILL, a sink that is out and one that
refuses, against real processes. In the end ``verify`` and the simulator's oracle must agree on
how many rows each sink lacks, and the gaps must count them.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import yaml

from forwarder.config.models import JournalSettings
from forwarder.runtime.opening import open_view
from tests.end_to_end.processes import until
from tests.proof.auditing import EDGE, covered_until
from tests.proof.books import Digest, digest, lost
from tests.proof.destinations import BulkBook, FileBook, HecBook
from tests.proof.ledger import Ledger
from tests.proof.sinks import hec
from tests.proof.site import ELASTIC_KEY, Books, Site, quick, site

_BUSY = 9
_PAUSE = (0.1, 1.5)


class Operators:
    """Does one random thing after the other to a running daemon."""

    def __init__(self, daemon: Site, fake: HecBook, rng: Random) -> None:
        self._daemon = daemon
        self._hec = fake
        self._rng = rng
        self._all = dict(daemon.settings["sinks"])
        self.did = Counter[str]()

    async def act(self) -> None:
        """Do one thing; commands may be refused, but never fail in another way."""
        actions: list[Callable[[], Awaitable[None]]] = [
            self.backfill, self.backfill, self.replay, self.replay_dead_letters, self.cancel,
            self.cancel, self.change_sinks, self.change_sinks, self.kill, self.busy,
        ]  # fmt: skip
        action = self._rng.choice(actions)
        self.did[action.__name__] += 1
        await action()
        await asyncio.sleep(self._rng.uniform(*_PAUSE))

    async def backfill(self) -> None:
        words = ["--since", f"{self._rng.randint(1, 20)}m", "--detach"]
        words += ["--again"] if self._rng.random() < 0.3 else []
        if self._rng.random() < 0.4:
            words += ["--sink", self._sink()]
        await self._command("backfill", *words)

    async def replay(self) -> None:
        await self._command("replay", "--sink", self._sink(), "--since", "5m")

    async def replay_dead_letters(self) -> None:
        await self._command("dead-letters", "replay", "--sink", "bulk")

    async def cancel(self) -> None:
        view = open_view(Path(self._daemon.settings["state_dir"]), JournalSettings())
        lanes = [one.name for one in await view.lanes() if one.state == "open"]
        await view.aclose()
        lanes.remove("live")
        if lanes:
            await self._command("backfill", "--cancel", self._rng.choice(lanes))

    async def change_sinks(self) -> None:
        """Add or remove a sink; one at least stays."""
        sinks = self._daemon.settings["sinks"]
        name = self._sink()
        if name not in sinks:
            sinks[name] = self._all[name]
        elif len(sinks) > 1:
            del sinks[name]
        self._daemon.config.write_text(yaml.safe_dump(self._daemon.settings, sort_keys=False))
        self._daemon.process.send_signal(signal.SIGHUP)

    async def kill(self) -> None:
        self._daemon.kill()
        await self._daemon.process.wait()
        await self._daemon.start()
        await self._daemon.running()

    async def busy(self) -> None:
        """Let HEC take nothing for a while, or take everything again."""
        self._hec.refusal = _BUSY if self._hec.refusal is None else None

    async def restore(self) -> None:
        """Let all sinks run and take everything."""
        self._hec.refusal = None
        self._daemon.settings["sinks"] = dict(self._all)
        await self.kill()

    def _sink(self) -> str:
        name: str = self._rng.choice(sorted(self._all))
        return name

    async def _command(self, *words: str) -> None:
        code, out = await self._daemon.command(*words)
        assert code in {0, 1, 2}, (words, out)
        assert b"Traceback" not in out, (words, out)


async def losses(daemon: Site) -> Counter[str]:
    """Return the rows that the gaps of each sink count."""
    _, out = await daemon.command("gaps", "list", "--json")
    counted = Counter[str]()
    for gap in orjson.loads(out):
        if gap["scope"].startswith("sink:"):
            assert gap["rows"] is not None, gap
            counted[gap["scope"].removeprefix("sink:")] += gap["rows"]
    return counted


async def dead_rows(daemon: Site) -> dict[str, list[Digest]]:
    """Return the rows among the dead letters of each sink; they may have arrived nowhere else."""
    view = open_view(Path(daemon.settings["state_dir"]), JournalSettings())
    found: dict[str, list[Digest]] = defaultdict(list)
    for letter in await view.letters():
        found[letter.sink].append(digest(orjson.loads(letter.row)))
    await view.aclose()
    return found


async def waiting(daemon: Site) -> int:
    view = open_view(Path(daemon.settings["state_dir"]), JournalSettings())
    places = await view.places()
    await view.aclose()
    return sum(place.backlog for place in places)


async def verified(daemon: Site) -> dict[str, dict[str, Any]]:
    """Return what ``verify`` says of everything that the live readers have covered, by sink."""
    end = (datetime.fromisoformat(await covered_until(daemon) or "") - EDGE).isoformat()
    _, out = await daemon.command("verify", "--since", "24h", "--until", end, "--json")
    found: dict[str, dict[str, Any]] = {}
    for one in orjson.loads(out):
        total = found.setdefault(one["sink"], Counter())
        for name in ("shown", "missing", "waiting", "skipped", "forgotten"):
            total[name] += one[name]
    return found


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(600, marks=pytest.mark.timeout(1500)),
        pytest.param(3600, marks=[pytest.mark.slow, pytest.mark.timeout(0)]),
    ],
)
async def test_no_order_of_commands_loses_a_row_in_silence(
    seconds: int, tmp_path: Path, ledger: Ledger
) -> None:
    rng, path = Random(seconds), tmp_path / "lines" / "access.ndjson"
    path.parent.mkdir()
    async with HecBook() as fake, BulkBook() as bulk:
        file = FileBook(path.parent, f"{path.stem}*")
        sinks = {
            "hec": hec(fake),
            "bulk": quick(
                {"type": "elasticsearch", "format": "raw", "url": bulk.url, "api_key": ELASTIC_KEY,
                 "index": "access"}
            ),
            "file": quick({"type": "file", "format": "raw", "path": str(path)}),
        }  # fmt: skip
        books: Books = {
            "hec": lambda: fake.book, "bulk": lambda: bulk.book, "file": lambda: file.book
        }  # fmt: skip
        async with site(tmp_path, sinks, "--rate", "20", "--history", "10m") as daemon:
            await daemon.start()
            await daemon.running()
            operators, ends = Operators(daemon, fake, rng), time.monotonic() + seconds
            while time.monotonic() < ends:
                await operators.act()
            await operators.restore()
            shown = await daemon.shown()
            began = (datetime.now().astimezone() + timedelta(seconds=2)).isoformat()

            async def caught_up() -> bool:
                covered = await covered_until(daemon)
                fresh = covered is not None and datetime.fromisoformat(covered) > (
                    datetime.fromisoformat(began) + 2 * EDGE
                )
                return fresh and await waiting(daemon) < 50

            await until(caught_up, 180)
            assert await daemon.stop() == 0
            dead = await dead_rows(daemon)
            lacking = {sink: lost(shown, book(), dead[sink]) for sink, book in books.items()}
            found, counted = await verified(daemon), await losses(daemon)

    told = {sink: total["missing"] for sink, total in found.items()}
    assert told == lacking, (found, operators.did)
    assert all(counted[sink] >= count for sink, count in lacking.items()), (counted, lacking)
    assert all(total["forgotten"] == 0 for total in found.values())
    ledger.row(
        "Operators",
        f"random commands, reloads and kills for {seconds} s, three sinks",
        times=operators.did.total(),
        events=shown.total(),
        lost=0,
        more=f"{sum(lacking.values())} lacking at sinks, all of them in gaps; verify agrees",
    )
