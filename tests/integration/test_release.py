"""A release, made and used as somebody would who has nothing but its files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from deploy.release.files import ROOT, write_release
from forwarder import __version__

pytestmark = pytest.mark.integration
_ENV = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    write_release(folder)
    return folder


def test_the_same_sources_give_the_same_bytes(release: Path, tmp_path: Path) -> None:
    write_release(tmp_path)

    assert (release / "SHA256SUMS").read_bytes() == (tmp_path / "SHA256SUMS").read_bytes()


def test_the_checksums_are_those_of_the_files(release: Path) -> None:
    lines = (release / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}

    files = [path for path in release.iterdir() if path.name != "SHA256SUMS"]
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_archive_names_the_version_and_has_what_it_says(release: Path) -> None:
    heads = {}
    for path in release.glob("*gz"):
        with tarfile.open(path) as archive:
            heads[path.name] = {name.split("/")[0] for name in archive.getnames()}

    assert heads == {
        f"cloudflare-access-forwarder-{__version__}.tgz": {"cloudflare-access-forwarder"},
        f"cloudflare_access_forwarder-{__version__}.tar.gz": {
            f"cloudflare_access_forwarder-{__version__}"
        },
        f"siem-content-{__version__}.tgz": {
            "elastic",
            "grafana",
            "prometheus",
            "qradar",
            "sentinel",
            "sigma",
        },
        f"splunk-app-{__version__}.tgz": {"cloudflare_access_forwarder"},
    }


def test_the_wheel_works_in_an_environment_with_nothing_else(release: Path, tmp_path: Path) -> None:
    """The locked packages and the wheel, started where no checkout is in sight."""
    python, forwarder = tmp_path / "env/bin/python", tmp_path / "env/bin/forwarder"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    install = f"{python} -m pip install --quiet --no-deps".split()
    locked = ["--require-hashes", "--requirement", str(ROOT / "requirements/runtime.txt")]
    subprocess.run([*install, *locked], check=True)
    subprocess.run([*install, *map(str, release.glob("*.whl"))], check=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [forwarder, *arguments],
            cwd=tmp_path,
            env=_ENV,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    version = run("--version")
    assert (version.returncode, __version__ in version.stdout) == (0, True), version.stderr
    plugins = run("plugins")
    assert (plugins.returncode, "splunk_hec" in plugins.stdout) == (0, True), plugins.stderr
    written = run("config", "init", "--sink", "stdout", "-o", "mine.yaml")
    assert written.returncode == 0, written.stderr
    demo = run("demo", "--for", "5s", "--json")
    assert (demo.returncode, demo.stdout.count("\n") > 0) == (0, True), demo.stderr
