"""``make flamegraphs``: where the daemon's time goes, as docs/images/flame-*.svg.

py-spy looks at the daemon 200 times a second while it catches up; frames are Python functions.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from bench.processes import Daemon, helper, other_cores
from bench.report import ROOT
from bench.scenarios import SCENARIOS
from bench.stages import stage
from bench.watching import until

IMAGES = ROOT / "docs/images"
DRAWN = ("hec", "fan-out")
_RATE = 200
_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*(</text>)')


def draw(name: str, count: int, api: int, path: Path) -> None:
    """Draw the middle of one catch-up."""
    sinks = SCENARIOS[name]
    with stage(sinks, api) as here, here.daemon() as process:
        until(1, lambda: process.delivered(sinks))
        watcher = _watch(process, here.folder / "flame.svg")
        until(count, lambda: process.delivered(sinks))
        watcher.send_signal(signal.SIGINT)
        watcher.wait(60)
        drawn = (here.folder / "flame.svg").read_text(encoding="utf-8")
    path.parent.mkdir(exist_ok=True)
    path.write_text(titled(drawn, f"catch-up into {' + '.join(sinks)}"), encoding="utf-8")


def titled(drawn: str, title: str) -> str:
    """Return the image with a title that says what it shows, not who was watched how."""
    return _TITLE.sub(rf"\g<1>{title}\g<2>", drawn, count=1)


def _watch(process: Daemon, path: Path) -> subprocess.Popen[bytes]:
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
    cores = ",".join(map(str, other_cores()))
    options = ["--function", "--rate", str(_RATE), "--output", str(path)]
    command = ["taskset", "-c", cores, spy, "record", *options, "--pid", str(process.process.pid)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(prog="python -m bench.flamegraphs", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    chosen = parser.parse_args()
    with helper("bench.cloudflare", str(chosen.rows)) as api:
        for name in DRAWN:
            path = IMAGES / f"flame-{name}.svg"
            draw(name, chosen.rows, api, path)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    main()
