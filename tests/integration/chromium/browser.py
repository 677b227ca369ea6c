"""Chromium out of Debian's packages, and axe-core as the package-lock beside this file pins it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration.debian import installed, missing_for, unpack
from tests.integration.unavailable import Unavailable, output_of

_HERE = Path(__file__).parent
_START_UP = 120


@dataclass(frozen=True)
class Browser:
    """A browser without a window; ``port`` is where it is debugged, ``axe`` is axe-core's text."""

    port: int
    axe: str


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Run a browser with a fresh profile in ``folder``."""
    axe = _axe(folder)
    program, environment = _program()
    command = [
        program,
        "--headless=new",
        "--no-sandbox",  # needs no privileges: the only page it sees is the one under test
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={folder / 'profile'}",
        "--remote-debugging-port=0",
        "--remote-debugging-address=127.0.0.1",
        "about:blank",
    ]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield Browser(_port(folder / "profile", process), axe)
    finally:
        process.terminate()
        process.wait(_START_UP)


def _port(profile: Path, process: subprocess.Popen[bytes]) -> int:
    """Return the port that the browser has chosen, once it says so."""
    said, until = profile / "DevToolsActivePort", time.monotonic() + _START_UP
    while process.poll() is None and time.monotonic() < until:
        if said.exists() and "\n" in (text := said.read_text()):
            return int(text.splitlines()[0])
        time.sleep(0.05)  # noqa: TID251 - the other side is a process
    raise Unavailable(f"chromium does not start; see {profile.parent / 'chromium.log'}")


def _program() -> tuple[str, dict[str, str]]:
    """Return the installed browser, or one that is unpacked beside the system."""
    found = shutil.which("chromium")
    if found:
        return found, dict(os.environ)
    unpacked = unpack("chromium", missing_for("chromium"))
    program = unpacked.root / "usr" / "lib" / "chromium" / "chromium"
    return str(program), unpacked.environment(unpacked.libraries / "pulseaudio")


def _axe(folder: Path) -> str:
    installed(("npm",), ("npm",))
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    output_of(command, "npm cannot fetch axe-core", folder)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
