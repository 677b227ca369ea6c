"""What judges the Splunk app: Splunk's AppInspect and dashboard schemas, and a linter of SPL."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.debian import installed
from tests.integration.unavailable import CACHE, Unavailable, output_of

_HERE = Path(__file__).parent
_LOCK = _HERE.parents[2] / "requirements/splunk.txt"
_PATIENCE = 300.0


@dataclass(frozen=True)
class Judges:
    """Programs of an environment of their own, and a folder with Splunk's schemas."""

    programs: Path
    schemas: Path

    @classmethod
    @contextmanager
    def run(cls, folder: Path) -> Iterator[Judges]:
        """Install what is missing; ``folder`` is for this run."""
        yield cls(_environment() / "bin", _schemas(folder))

    def inspect(self, package: Path) -> dict[str, Any]:
        """Return AppInspect's report of a package, with the checks for Splunk Cloud."""
        report = package.with_suffix(".json")
        command: list[str | Path] = [self.programs / "splunk-appinspect", "inspect", package]
        command += ["--mode", "precert", "--included-tags", "cloud", "--output-file", report]
        # It ends with another status than 0 when a check fails; the report says which.
        self._output(command)
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found

    def lint(self, search: str) -> list[dict[str, Any]]:
        """Return what the linter finds in one search."""
        # Field=* asks whether an event has the field; the rule means beginnings of texts.
        command: list[str | Path] = [
            self.programs / "splint",
            "-",
            "--format",
            "json",
            "--ignore",
            "SPL002",
        ]
        return list(json.loads(self._output(command, search))["diagnostics"])

    def faults_of(self, dashboard: Mapping[str, Any]) -> list[str]:
        """Return what Splunk's schemas find wrong in a dashboard."""
        command: list[str | Path] = ["node", self.schemas / "dashboard.js"]
        return list(json.loads(self._output(command, json.dumps(dashboard))))

    @staticmethod
    def _output(command: list[str | Path], given: str = "") -> str:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        assert done.stdout, done.stderr
        return done.stdout


def _environment() -> Path:
    """Return a virtual environment with exactly what the lock names."""
    folder = CACHE / f"splunk-{hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]}"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        output_of([sys.executable, "-m", "venv", folder], "no virtual environment")
        pip: list[str | Path] = [
            folder / "bin/python",
            "-m",
            "pip",
            "--quiet",
            "install",
            "--require-hashes",
        ]
        output_of([*pip, "--no-deps", "-r", _LOCK], "pip cannot fetch AppInspect")
        (folder / "installed").touch()
    return folder


def _schemas(folder: Path) -> Path:
    installed(("npm", "node"), ("npm",))
    if shutil.which("node") is None:
        raise Unavailable("node not found (Debian: nodejs)")
    for name in ("package.json", "package-lock.json", "dashboard.js"):
        shutil.copy(_HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    output_of(command, "npm cannot fetch Splunk's schemas", folder)
    return folder
