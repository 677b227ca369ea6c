"""The figures of a run: one row a claim, kept as JSON, shown as a table in ``docs/proof.md``."""

from __future__ import annotations

import fcntl
import os
import platform
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

_HEAD = """\
# Proof

Written by the tests marked `proof`, never by hand: by `make proof` and `make proof-long` all of
them, or one file at a time. Each row says which size ran and when; machines and commits stand
below; longer and shorter runs stand side by side. A row that a run did not measure keeps the
figures of the run before.
`lost` counts events that the simulated API has shown and that are neither at the destination nor
among the dead letters of the sink. `again` counts deliveries of an event beyond its first.
`recovery` is the longest time from the end of a fault until everything shown was delivered.
"""
_COLUMNS = ("what was done", "how often", "events", "lost", "again", "recovery", "more", "run")
_PLANTED = """
## Faults that were planted, to see that they are found

| harness | planted | found as |
|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One claim with its figures; ``None`` where a column does not apply."""

    section: str
    what: str
    times: int | None = None
    events: int | None = None
    lost: int | None = None
    again: int | dict[str, int] | None = None
    recovery: float | None = None
    more: str = ""
    run: str = ""
    at: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault that a harness was given on purpose, and how it showed."""

    harness: str
    fault: str
    found: str


@dataclass(slots=True)
class Ledger:
    """Collects what the tests of one run measured."""

    rows: list[Row] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)

    def row(self, section: str, what: str, **figures: Any) -> None:
        """Add a row; called by a test after its assertions."""
        self.rows.append(Row(section, what, **figures))

    def plant(self, harness: str, fault: str, found: object) -> None:
        """Say which planted fault was found, and how."""
        self.planted.append(Planted(harness, fault, str(found)))

    def keep(self, folder: Path, run: str) -> None:
        """Put the figures in the place of older ones and rewrite the page.

        Processes that end at once wait for each other: each has only its own figures.
        """
        with alone_in(folder):
            self._merge(folder, run)

    def _merge(self, folder: Path, run: str) -> None:
        file = folder / "proof.json"
        kept = orjson.loads(file.read_bytes()) if file.exists() else {"rows": [], "planted": []}
        at, where = time.strftime("%Y-%m-%d", time.gmtime()), machine()
        rows = {(row["section"], row["what"], row["run"]): row for row in kept["rows"]}
        for new in self.rows:
            named = asdict(new) | {"run": run, "at": at, "machine": where}
            rows[new.section, new.what, run] = named
        planted = {(one["harness"], one["fault"]): one for one in kept["planted"]}
        planted |= {(one.harness, one.fault): asdict(one) for one in self.planted}
        kept = {"rows": list(rows.values()), "planted": list(planted.values())}
        file.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n")
        (folder / "proof.md").write_text(page(kept))


@contextmanager
def alone_in(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock as long as the block runs; the system takes it back from the dead.

    Raises ``BlockingIOError`` if ``wait`` is false and another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def page(kept: dict[str, Any]) -> str:
    """Return the page for the figures that are kept."""
    parts = [_HEAD]
    for section in dict.fromkeys(row["section"] for row in kept["rows"]):
        rows = [row for row in kept["rows"] if row["section"] == section]
        parts.append(f"\n## {section}\n\n{_line(_COLUMNS)}{_line('---' for _ in _COLUMNS)}")
        parts += [_line(_cells(row)) for row in rows]
    parts.append(_PLANTED)
    parts += [_line((one["harness"], one["fault"], one["found"])) for one in kept["planted"]]
    machines = dict.fromkeys(row["machine"] for row in kept["rows"])
    parts.append("\n## Machines\n\n" + "".join(f"- {one}\n" for one in machines))
    return "".join(parts)


def machine() -> str:
    """Return what the figures depend on, in one line."""
    memory = psutil.virtual_memory().total / 2**30
    commit = subprocess.run(
        ["git", "describe", "--always"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return (
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, commit {commit or '?'}"
    )


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    again = row["again"]
    if isinstance(again, dict):
        again = ", ".join(f"{sink} {count:,}" for sink, count in again.items())
    elif again is not None:
        again = f"{again:,}"
    recovery = "" if row["recovery"] is None else f"{row['recovery']:.1f} s"
    numbers = ["" if row[key] is None else f"{row[key]:,}" for key in ("times", "events", "lost")]
    return (row["what"], *numbers, again or "", recovery, row["more"], f"{row['run']} {row['at']}")
