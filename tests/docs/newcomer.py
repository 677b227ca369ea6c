"""The newcomer's path, timed: the commands of docs/getting-started.md until the first event."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.generate.markdown import blocks
from tests.docs.shell import ROOT, commands

_PAGE = ROOT / "docs/getting-started.md"
_LONGEST = 900.0
_LOOK = 0.05


def steps() -> dict[str, list[str]]:
    """Return the commands of each step, out of the page."""
    clone, simulator, own, _, collector, splunk, *_ = (
        block for block in blocks(_PAGE.read_text(encoding="utf-8"))
    )
    return {
        "clone": clone.text.splitlines(),
        "simulator": [one.text for one in commands(simulator.text, 0)],
        "own token": [one.text for one in commands(own.text, 0)],
        "collector": [one.text for one in commands(collector.text, 0)],
        "splunk": [one.text for one in commands(splunk.text, 0)],
    }


def measure_newcomer() -> str:
    """Walk the path in a folder of its own and return the table."""
    page = steps()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        shell = _Shell(Path(folder))
        checkout = Path(folder) / "forwarder"
        try:
            clone = [one.replace("REPOSITORY", str(ROOT)) for one in page["clone"]]
            demo = [*clone[:-1], f"{clone[-1]} > demo.out &"]
            first = shell.timed(demo, checkout / "demo.out", "  id=")
            shell.do("kill $!", "wait", "source .venv/bin/activate", *page["simulator"])
            second = shell.timed(page["own token"], checkout / "events.ndjson", "{")
            shell.do(*page["collector"])
            third = shell.timed(page["splunk"], checkout / "splunk.out", '"sourcetype"')
        finally:
            shell.end()
    rows = [
        ("clone to demonstration, packages installed", page["clone"], first),
        ("demonstration to own token", page["own token"], second),
        ("own token to the first event in a HEC", page["splunk"], third),
    ]
    table = "\n".join(f"| {name} | {len(given)} | {took:.1f} |" for name, given, took in rows)
    return f"| step | commands | seconds |\n|---|---|---|\n{table}"


class _Shell:
    """One interactive reader: a bash that is given one line after the other."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ},
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def do(self, *lines: str) -> None:
        """Give it commands."""
        assert self._process.stdin is not None
        for line in lines:
            self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def timed(self, lines: Sequence[str], output: Path, sign: str) -> float:
        """Give commands and return the seconds until ``output`` has the sign of an event."""
        began = time.monotonic()
        self.do(*lines)
        _until(lambda: output.exists() and sign in output.read_text(errors="replace"))
        return time.monotonic() - began

    def end(self) -> None:
        """End it and what it has started."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _LONGEST
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("no event was seen")
        time.sleep(_LOOK)  # noqa: TID251 - nothing else runs here
