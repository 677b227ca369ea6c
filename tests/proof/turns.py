"""No turn of a daemon's event loop may take long; see ``turning/sitecustomize.py``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import orjson

LONGEST = 1.0
"""Seconds that one turn of the loop may take."""


def measured(folder: Path, run: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` for a daemon that writes its longest turn to a file in ``folder``."""
    before = environment.get("PYTHONPATH")
    path = str(Path(__file__).with_name("turning"))
    return {
        **environment,
        "PYTHONPATH": f"{path}{os.pathsep}{before}" if before else path,
        "FORWARDER_TURNS": str(folder / f"turns.{run}"),
    }


def too_long(folder: Path, *, alone: bool) -> list[str]:
    """Return the files below ``folder`` that tell of a longer turn, and what it was doing.

    Wall time counts where a test has the machine for itself, CPU time of the loop's thread where it
    shares it.
    """
    found = []
    for file in sorted(folder.rglob("turns.*")):
        turn = orjson.loads(file.read_bytes() or b"{}")
        seconds = turn.get("wall" if alone else "cpu", 0.0)
        if seconds > LONGEST:
            found.append(f"{file.name}: a turn of {seconds:.1f} s in {turn['where'] or '?'}")
    return found
