"""Programs out of Debian's packages, unpacked beside the system.

Two syslog servers cannot both be installed, and unpacking them needs no root.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.unavailable import Unavailable, need, output_of

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forwarder-tests"


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
    need(("apt-get", "dpkg-deb"), "apt, dpkg")
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
    need(("apt-get",), "apt")
    failure = f"apt-get knows no package {package} (try apt-get update)"
    command = ["apt-get", "--simulate", "--yes", "--no-install-recommends", "install", package]
    lines = [line.split() for line in output_of(command, failure).splitlines()]
    found = sorted(words[1] for words in lines if words[:1] == ["Inst"])
    if not found:
        raise Unavailable(failure)
    return found


def _fetch(root: Path, packages: Sequence[str]) -> None:
    failure = f"apt-get download {' '.join(packages)} (try apt-get update)"
    output_of(["apt-get", "download", *packages], failure, root)
    for package in root.glob("*.deb"):
        output_of(["dpkg-deb", "-x", package, root], f"{package.name} cannot be unpacked")
        package.unlink()
