"""The image, built from the Dockerfile as it is, without a container engine or a registry.

Debian's buildah builds in a chroot. The base, which the Dockerfile takes as an argument, is a
Debian with its own Python, made from packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forwarder import __version__
from tests.integration.debian import installed
from tests.integration.unavailable import CACHE, Unavailable, output_of

ROOT = Path(__file__).parents[2]
SAID = {"VERSION": __version__, "REVISION": "c0ffee", "SOURCE": "https://forge.example.org/f"}
"""What ``make image`` tells the build about itself."""
_BASE = "localhost/forwarder-test-base"
_IMAGE = "localhost/forwarder-test"
_PACKAGES = "ca-certificates,python3,python3-venv,python-is-python3"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Buildah:
    """Builds images and mounts them, in a storage of its own; needs root."""

    def __init__(self, storage: Path) -> None:
        """Get the programs; raises ``Unavailable``."""
        if os.geteuid():
            raise Unavailable("building an image in a chroot takes root")
        installed(["buildah", "mmdebstrap"], ["buildah", "mmdebstrap"])
        self._storage = storage

    def run(self, *words: str | Path) -> str:
        """Return what a command of buildah prints; raises ``Unavailable`` if it fails."""
        place: list[str | Path] = ["--root", self._storage / "root"]
        place += ["--runroot", self._storage / "run"]
        command = ["buildah", "--storage-driver", "vfs", *place, *words]
        return output_of(command, f"buildah {words[0]} fails", ROOT).strip()

    def base(self) -> str:
        """Return the name of a base with Python that finds packages as this machine does."""
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, _debian(), "/")
        self.run("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
        if Path(_CERTIFICATES).exists():
            self.run("copy", "--quiet", container, _CERTIFICATES, _CERTIFICATES)
        for name, value in os.environ.items():
            if name.startswith("PIP_"):
                self.run("config", "--env", f"{name}={value}", container)
        self.run("commit", "--quiet", "--rm", container, _BASE)
        return _BASE

    def image(self, base: str) -> str:
        """Build the image on a base, and return its name."""
        wheels = os.environ.get("PIP_FIND_LINKS", "")
        local = [f"--volume={wheels}:{wheels}:ro"] if Path(wheels).is_dir() and wheels else []
        how = ["--isolation=chroot", "--pull-never", "--format=docker", *local]
        what = [f"--build-arg=PYTHON_IMAGE={base}", "--file", "deploy/Dockerfile"]
        what += [f"--build-arg={name}={value}" for name, value in SAID.items()]
        self.run("bud", "--quiet", *how, *what, "--tag", _IMAGE, ".")
        return _IMAGE

    def settings(self, image: str) -> Mapping[str, Any]:
        """Return what the image says of itself: entry point, user, environment, labels."""
        found: Mapping[str, Any] = json.loads(self.run("inspect", "--type=image", image))
        settings: Mapping[str, Any] = found["Docker"]["config"]
        return settings

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Lend the files of an image as a folder that may be written to."""
        container = self.run("from", "--pull-never", image)
        try:
            yield Path(self.run("mount", container))
        finally:
            self.run("rm", container)


def _debian() -> Path:
    """Return a Debian with Python as an archive, made once; takes minutes."""
    target = CACHE / "image" / "base.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f"{os.getpid()}.tar")
        # Without a mirror it takes this machine's own list of packages.
        words = ["mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}"]
        command = [*words, _release(), str(draft)]
        output_of(command, "mmdebstrap cannot make a Debian")
        draft.replace(target)
    return target


def _release() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2]
    return "stable"


def as_process_1(
    root: Path, user: str, command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start a command in the files of an image, as its first process, as ``UID:GID``."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc"]
    chroot = [shutil.which("chroot") or "chroot", f"--userspec={user}", str(root)]
    return subprocess.Popen(
        [*unshare, *chroot, *command],
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
