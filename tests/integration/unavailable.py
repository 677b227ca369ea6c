"""When a destination cannot be started here; the reason is for people."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forwarder-tests"
"""Where programs stay that were fetched once."""
_PATIENCE = 600.0


class Unavailable(Exception):  # noqa: N818 - it is a reason, and no fault of the test
    """What is missing on this machine."""


def need(tools: Sequence[str], packages: str) -> None:
    """Raise ``Unavailable`` when a program is missing; ``packages`` says what Debian calls it."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise Unavailable(f"{' and '.join(missing)} not found (Debian: {packages})")


def output_of(command: Sequence[str | Path], failure: str, folder: Path | None = None) -> str:
    """Return what a program that may need the network prints; ``failure`` is the reason if not.

    One process of the tests at a time: apt, Maven and npm keep what they fetch in one place.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        with (CACHE / "fetching").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(
                command, cwd=folder, capture_output=True, timeout=_PATIENCE, check=False, text=True
            )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{failure}: no end after {_PATIENCE:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise Unavailable(": ".join([failure, *last]))
    return done.stdout
