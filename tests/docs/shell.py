"""Runs a page's `console` blocks as a reader would: one shell, one folder, the shipped settings.

Lines that begin with ``$ `` are commands, with ``> `` their continuation; the others are what must
be printed, in this order. ``...`` stands for anything, and further lines may stand between. A
command must succeed unless it ends in ``# exit N``. Ports are replaced by free ones; ``sleep`` also
waits until what was started before is ready.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forwarder.testing.network import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PORTS = ("8787", "9464", "9465", "8088")
_SETTLED = Path(__file__).with_name("settled.py")
_LONGEST = 300
_INSTALLED = ".venv/.runtime-installed"
"""What the Makefile would renew after a change of the locks; a test installs nothing."""
_MARK = "@@command "
_ADMIN = re.compile(r"FORWARDER_ADMIN_LISTEN=127\.0\.0\.1:(\d+)")
_STATUS = re.compile(r"# exit (\d+)$")
_PRELUDE = f"""\
cleanup() {{ for job in $(jobs -p); do kill "$job" 2> /dev/null; done; wait; }}
trap cleanup EXIT
make() {{ command make --no-print-directory --assume-old={_INSTALLED} -C {ROOT} "$@"; }}
sleep() {{ command sleep "$1"; {sys.executable} {_SETTLED} $STARTED; }}
STARTED=
"""


@dataclass
class Command:
    """A command, the line of the page it stands on, and what it must print."""

    text: str
    line: int
    expected: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """Return the exit status that the page names."""
        found = _STATUS.search(self.text)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit status (None when it was never reached) and output."""

    command: Command
    status: int | None
    output: str

    def complaint(self) -> str:
        """Return what is wrong, or nothing."""
        about = f"line {self.command.line}: $ {self.command.text}"
        if self.status != self.command.status:
            return f"{about}\nexit {self.status}, not {self.command.status}:\n{self.output}"
        lines = iter(map(_squeezed, self.output.splitlines()))
        for wanted in self.command.expected:
            pattern = re.compile(".*".join(map(re.escape, _squeezed(wanted).split("..."))))
            if not any(pattern.fullmatch(line) for line in lines):
                return f"{about}\nno line {wanted!r} in its place in:\n{self.output}"
        return ""


def commands(text: str, first_line: int) -> list[Command]:
    """Read a console block."""
    found: list[Command] = []
    for number, line in enumerate(text.splitlines(), start=first_line + 1):
        if line.startswith("$ "):
            found.append(Command(line[2:], number))
        elif line.startswith("> "):
            found[-1].text += f"\n{line[2:]}"
        elif line.strip() and line.strip() != "...":
            found[-1].expected.append(line)
    return found


def run(page: Sequence[Command], folder: Path) -> list[Outcome]:
    """Run the commands of a page one after the other in ``folder``."""
    ports = {written: str(free_port()) for written in PORTS}
    _furnish(folder, ports)
    script, output = folder / ".script", folder / ".output"
    script.write_text(_script(page, ports))
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", script],
            cwd=folder,
            env=_environment(ports),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(_LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, 9)
            shell.wait()
    return _outcomes(page, output.read_text(errors="replace"))


def _script(page: Sequence[Command], ports: dict[str, str]) -> str:
    parts, admin = [_PRELUDE], ports["9464"]
    for number, command in enumerate(page):
        text = _replaced(command.text, ports)
        moved = _ADMIN.search(text)
        admin = moved[1] if moved else admin
        started = "".join(
            f'STARTED="$STARTED {port}"\n'
            for word, port in (
                ("forwarder simulate", ports["8787"]),
                ("forwarder run", admin),
                ("tests.docs.hec", ports["8088"]),
            )
            if word in text and text.endswith("&")
        )
        parts.append(f"{text}\nSTATUS=$?\n{started}echo\necho '{_MARK}'{number} $STATUS\n")
    return "".join(parts)


def _outcomes(page: Sequence[Command], output: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    rest = output
    for number, command in enumerate(page):
        mark = re.search(rf"^{_MARK}{number} (\d+)\n", rest, re.MULTILINE)
        if mark is None:
            return [*outcomes, Outcome(command, None, rest)]
        outcomes.append(Outcome(command, int(mark[1]), rest[: mark.start()]))
        rest = rest[mark.end() :]
    return outcomes


def _furnish(folder: Path, ports: dict[str, str]) -> None:
    """Put in what the examples use of a checkout."""
    shutil.copytree(ROOT / "docs/examples", folder / "docs/examples")
    for path in [ROOT / "config.yaml", *(folder / "docs/examples").glob("*.yaml")]:
        target = folder / path.relative_to(ROOT if path.parent == ROOT else folder)
        target.write_text(_replaced(path.read_text(), ports))


def _environment(ports: dict[str, str]) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
    return {
        **kept,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FORWARDER_ADMIN_LISTEN": f"127.0.0.1:{ports['9464']}",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }


def _replaced(text: str, ports: dict[str, str]) -> str:
    for written, used in ports.items():
        text = re.sub(rf"\b{written}\b", used, text)
    return text


def _squeezed(line: str) -> str:
    return " ".join(line.split())
