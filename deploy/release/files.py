"""Every file of a release but the image: packages, chart, SIEM content, checksums."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from deploy.archive import contents, packed
from deploy.splunk.package import package
from forwarder import __version__

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/cloudflare-access-forwarder"
_CONTENT = ("elastic", "grafana", "prometheus", "qradar", "sentinel", "sigma")
_EPOCH = "1577836800"
"""2020-01-01: archives cannot hold times before 1980, and a release must not depend on its own."""


def write_release(folder: Path) -> list[Path]:
    """Write a release into a folder, and return its files; the same commit gives the same bytes.

    Raises ``CalledProcessError`` when the Python packages cannot be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_python_packages(folder)
    version = __version__
    (folder / f"{CHART.name}-{version}.tgz").write_bytes(packed(contents([CHART], CHART.parent)))
    (folder / f"splunk-app-{version}.tgz").write_bytes(package())
    kinds = [ROOT / "deploy" / name for name in _CONTENT]
    (folder / f"siem-content-{version}.tgz").write_bytes(packed(contents(kinds, ROOT / "deploy")))
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(f"{_digest(path)}  {path.name}\n" for path in files), encoding="utf-8")
    return [*files, sums]


def _write_python_packages(folder: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder.resolve())]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH}
    subprocess.run(build, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - this interpreter


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
