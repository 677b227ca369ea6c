"""Figures of processes that end at the same moment all reach the page."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from tests.proof.ledger import Ledger, Planted, Row

_PROCESSES = range(12)


def test_whoever_writes_at_once_keeps_the_others_figures(tmp_path: Path) -> None:
    ledgers = [
        Ledger([Row("Load", f"what {n} did", times=n)], [Planted("Load", f"fault {n}", "found")])
        for n in _PROCESSES
    ]
    with ThreadPoolExecutor(len(ledgers)) as pool:
        list(pool.map(lambda ledger: ledger.keep(tmp_path, "proof"), ledgers))
    kept = orjson.loads((tmp_path / "proof.json").read_bytes())
    page = (tmp_path / "proof.md").read_text()

    assert {row["times"] for row in kept["rows"]} == {*_PROCESSES}
    assert {one["fault"] for one in kept["planted"]} == {f"fault {n}" for n in _PROCESSES}
    assert all(f"| what {n} did | {n} |" in page for n in _PROCESSES)


def test_a_row_measured_again_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    for run, times in (("proof", 1), ("proof-long", 2), ("proof", 3)):
        Ledger([Row("Load", "the same", times=times)]).keep(tmp_path, run)
    kept = orjson.loads((tmp_path / "proof.json").read_bytes())["rows"]

    assert [(row["run"], row["times"]) for row in kept] == [("proof", 3), ("proof-long", 2)]
