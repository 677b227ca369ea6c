"""Bits of a journal are flipped: it is read right, or refused with an explanation, never less."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from forwarder.core.contracts import LIVE
from forwarder.core.errors import DamagedError, StateError
from forwarder.core.telemetry import ignore
from forwarder.core.timing import SystemClock
from forwarder.journal.sqlite import SqliteJournal
from tests.proof.ledger import Ledger
from tests.proof.test_power_cut import KEEPING, KEY, history

_REFUSED = "refused with an explanation"
_RIGHT = "read right"
_SILENT = "read wrong, and nobody told"


async def contents(folder: Path) -> list[Any]:
    """Return all that positions and deliveries depend on, read as the daemon reads it."""
    journal = await SqliteJournal.open(folder, KEEPING, clock=SystemClock(), emit=ignore)
    try:
        memory = await journal.stream_log(KEY).load()
        queue = await journal.sink_queue("sink", start_at="beginning")
        found: list[Any] = [memory.readers, memory.key_sets, await queue.lanes()]
        offset = 1
        while pages := await queue.read(LIVE, offset, 10**9):
            for page in pages:
                names = (page.first_offset, page.account_id, page.stream, page.seen_us)
                found.append((*names, page.times_us, page.ids, page.rows))
            offset = pages[-1].end_offset
        return found
    finally:
        await journal.aclose()


async def outcome(folder: Path, truth: list[Any]) -> str:
    """Return how a journal with damage was met."""
    try:
        found = await contents(folder)
    except (DamagedError, StateError):
        return _REFUSED
    return _RIGHT if found == truth else _SILENT


def flipped(whole: bytes, rng: Random) -> bytes:
    """Return the bytes with 1 to 64 bits flipped."""
    bad = bytearray(whole)
    for _ in range(rng.choice((1, 1, 4, 64))):
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    return bytes(bad)


def laid(folder: Path, content: bytes) -> Path:
    """Make a state folder with these bytes as its journal."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    (folder / "journal.db").write_bytes(content)
    return folder


@pytest.mark.timeout(600)
async def test_a_journal_with_flipped_bits_is_refused_or_read_right(
    tmp_path: Path, ledger: Ledger, *, long: bool
) -> None:
    rng, flips, outcomes = Random(10), 5_000 if long else 500, Counter[str]()
    await history(tmp_path / "state", pages=60)
    whole = (tmp_path / "state" / "journal.db").read_bytes()
    truth = await contents(laid(tmp_path / "cut", whole))
    for _ in range(flips):
        folder = laid(tmp_path / "cut", flipped(whole, rng))
        outcomes[await outcome(folder, truth)] += 1

    assert outcomes[_REFUSED]
    assert outcomes[_RIGHT]
    assert outcomes[_SILENT] == 0
    ledger.row(
        "Power cut",
        "bytes of the journal are flipped: nothing but the documented error",
        times=flips,
        more=", ".join(f"{what}: {number}" for what, number in sorted(outcomes.items()))
        + f"; {_SILENT}: {outcomes[_SILENT]}",
    )


_CHANGES = {
    "a page is gone": "DELETE FROM page WHERE first_offset = 201",
    "a page is in another lane": "UPDATE page SET lane = 2 WHERE first_offset = 201",
    "a page has no body": "UPDATE page SET body = NULL WHERE first_offset = 201",
    "an identity differs": "UPDATE page SET hashes = zeroblob(320) WHERE first_offset = 201",
    "a time differs": "UPDATE page SET times = zeroblob(160) WHERE first_offset = 201",
}


@pytest.mark.parametrize("change", _CHANGES)
async def test_a_change_without_its_checksum_is_found(
    change: str, tmp_path: Path, ledger: Ledger
) -> None:
    """Planted by SQL, so that the table and its indexes agree."""
    await history(tmp_path / "state", pages=20)
    content = (tmp_path / "state" / "journal.db").read_bytes()
    truth = await contents(laid(tmp_path / "cut", content))
    with closing(sqlite3.connect(tmp_path / "cut" / "journal.db", isolation_level=None)) as file:
        file.execute(_CHANGES[change])
    found = await outcome(tmp_path / "cut", truth)

    assert found != _RIGHT
    ledger.plant("Power cut", change, found)
