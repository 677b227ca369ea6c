"""Programs out of Debian's packages: the suites get by themselves what they test with.

Most are unpacked beside the system: two syslog servers cannot both be installed, and unpacking
needs no root. What only works where it is installed (Java) is installed if the user is root.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.unavailable import CACHE, Unavailable, need, output_of


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
    root = CACHE / name
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = root / "done"
        if not done.exists() or done.read_text() != " ".join(packages):
            _fetch(root, packages)
            done.write_text(" ".join(packages))
    return Unpacked(root)


def program(name: str, package: str) -> tuple[str, dict[str, str]]:
    """Return an installed program, or one unpacked out of its package, and its environment."""
    found = shutil.which(name)
    if found:
        return found, dict(os.environ)
    unpacked = unpack(package, missing_for(package))
    paths = [unpacked.root / "usr" / folder / name for folder in ("bin", "sbin", f"lib/{name}")]
    for path in paths:
        if path.is_file():
            return str(path), unpacked.environment()
    raise Unavailable(f"the package {package} has no program {name}")


def installed(programs: Sequence[str], packages: Sequence[str]) -> None:
    """Install what is missing if the user is root; raises ``Unavailable`` if it stays missing."""
    if os.geteuid() == 0 and any(shutil.which(one) is None for one in programs):
        for package in packages:
            missing_for(package)
        words = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
        output_of(words, f"apt-get cannot install {' '.join(packages)}")
    need(programs, ", ".join(packages))


def missing_for(package: str) -> list[str]:
    """Return ``package`` with everything that it needs and this system lacks."""
    need(("apt-get",), "apt")
    command = ["--simulate", "--yes", "--no-install-recommends", "install", package]
    try:
        lines = _apt(command, f"apt-get knows no package {package}")
    except Unavailable:
        # A fresh container has no lists of packages at all.
        _apt(["update"], "apt-get update")
        lines = _apt(command, f"apt-get knows no package {package}")
    found = sorted(words[1] for words in map(str.split, lines) if words[:1] == ["Inst"])
    if not found:
        raise Unavailable(f"{package} is installed, but its program is not found")
    return found


def _apt(words: Sequence[str], failure: str, folder: Path | None = None) -> list[str]:
    """Run apt-get and return its lines; a user who is not root has lists of packages of his own."""
    own = () if os.geteuid() == 0 else ("-o", f"Dir::State::lists={CACHE}/lists")
    return output_of(["apt-get", *own, *words], failure, folder).splitlines()


def _fetch(root: Path, packages: Sequence[str]) -> None:
    try:
        _apt(["download", *packages], "apt-get download", root)
    except Unavailable:
        # Lists that are older than the archive name files that are gone.
        _apt(["update"], "apt-get update")
        _apt(["download", *packages], f"apt-get download {' '.join(packages)}", root)
    for package in root.glob("*.deb"):
        output_of(["dpkg-deb", "-x", package, root], f"{package.name} cannot be unpacked")
        package.unlink()
