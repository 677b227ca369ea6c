"""Programs out of Debian's packages, unpacked beside the system.

Two syslog servers cannot both be installed, and unpacking them needs no root.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.unavailable import Unavailable

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forwarder-tests"
_PATIENCE = 300


@dataclass(frozen=True)
class Unpacked:
    """A folder with packages unpacked in it, and how to run programs from there."""

    root: Path

    @property
    def libraries(self) -> Path:
        return self.root / "usr" / "lib" / f"{platform.machine()}-linux-gnu"

    def environment(self, *more: Path) -> dict[str, str]:
        """Return the variables a program needs to find its libraries."""
        folders = [self.libraries, self.root / self.libraries.relative_to(self.root / "usr"), *more]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders)}


def unpack(name: str, packages: Sequence[str]) -> Unpacked:
    """Return ``packages`` unpacked, fetching them once; raises ``Unavailable``."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is missing: this needs Debian or Ubuntu")
    root = _CACHE / name
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = root / "done"
        if not done.exists() or done.read_text() != " ".join(packages):
            _fetch(root, packages)
            done.write_text(" ".join(packages))
    return Unpacked(root)


def missing_for(package: str) -> list[str]:
    """Return ``package`` with everything that it needs and this system lacks."""
    if shutil.which("apt-get") is None:
        raise Unavailable("apt-get is missing: this needs Debian or Ubuntu")
    asked = subprocess.run(
        ["apt-get", "--simulate", "--yes", "--no-install-recommends", "install", package],
        capture_output=True,
        timeout=_PATIENCE,
        check=False,
        text=True,
    )
    lines = [line.split() for line in asked.stdout.splitlines() if line.startswith("Inst ")]
    if asked.returncode or not lines:
        raise Unavailable(f"apt-get knows no package {package} (try apt-get update)")
    return sorted(line[1] for line in lines)


def _fetch(root: Path, packages: Sequence[str]) -> None:
    asked = subprocess.run(
        ["apt-get", "download", *packages],
        cwd=root,
        capture_output=True,
        timeout=_PATIENCE,
        check=False,
        text=True,
    )
    if asked.returncode:
        last = asked.stderr.strip().splitlines()[-1:]
        raise Unavailable(f"apt-get download {' '.join(packages)}: {last} (try apt-get update)")
    for package in root.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True, timeout=_PATIENCE)
        package.unlink()
