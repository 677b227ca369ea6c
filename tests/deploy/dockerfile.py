"""A Dockerfile as its instructions, and its build steps run without a container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of one stage; stages are counted from 0."""

    stage: int
    name: str
    text: str


def instructions(dockerfile: str) -> list[Instruction]:
    """Return the instructions without comments, continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    found: list[Instruction] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.strip().partition(" ")
        if name:
            stage = sum(each.name == "FROM" for each in found) - (name != "FROM")
            found.append(Instruction(stage, name, re.sub(r"\s+", " ", text).strip()))
    return found


@dataclass(frozen=True, slots=True)
class Stage:
    """Runs COPY and RUN of one stage in a folder that stands for the file system's root."""

    context: Path
    root: Path
    folders: tuple[str, ...] = ("/opt", "/src")

    def run(self, steps: list[Instruction]) -> None:
        """Run the steps in their order; raises when one of them fails."""
        work = self.root / "src"
        work.mkdir(parents=True)
        for step in steps:
            if step.name == "COPY":
                self._copy(step.text.split(), work)
            elif step.name == "RUN":
                self._shell(step.text, work)

    def _copy(self, words: list[str], work: Path) -> None:
        *sources, target = words
        for source in sources:
            origin = self.context / source
            if origin.is_dir():
                shutil.copytree(origin, work / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (work / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(origin, work / target)

    def _shell(self, command: str, work: Path) -> None:
        for folder in self.folders:
            command = re.sub(rf"(?<![\w.]){folder}(?=/)", f"{self.root}{folder}", command)
        command = re.sub(r"(?<![\w/-])python(?= )", sys.executable, command)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run(["/bin/sh", "-ec", command], cwd=work, env=environment, check=True)
