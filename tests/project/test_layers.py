"""Every import rule is seen to fail when it is broken on purpose, in a copy of the package."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

LAYERS = "A room imports only rooms below it, and never its neighbours"
SINKS = "Sinks do not know each other"
JOURNAL = "Engine and plugins never touch sqlite3 or the journal package"
CORE = "Core is pure"
FORMATS = "Formats are pure"
SIMULATOR = "The simulator shares no code with what it tests"
COMMANDS_ONLY = "Only the commands know the simulator"
TESTING = "Production code never imports forwarder.testing"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package and its rules, free to be broken."""
    shutil.copytree(
        ROOT / "forwarder", tmp_path / "forwarder", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _lint(checkout: Path) -> tuple[int, str]:
    ran = subprocess.run(
        [LINT_IMPORTS, "--no-logo", "--no-cache"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def _broken(output: str) -> set[str]:
    ending = " BROKEN"
    return {line.removesuffix(ending) for line in output.splitlines() if line.endswith(ending)}


def test_the_package_keeps_every_rule(checkout: Path) -> None:
    code, output = _lint(checkout)

    assert (0, set()) == (code, _broken(output)), output


@pytest.mark.parametrize(
    ("rule", "module", "statement"),
    [
        (LAYERS, "core", "import forwarder.transport"),
        (LAYERS, "transport", "import forwarder.journal"),
        (LAYERS, "journal", "import forwarder.ingest"),
        (LAYERS, "ingest", "import forwarder.delivery"),
        (LAYERS, "sources", "import forwarder.sinks"),
        (LAYERS, "sinks", "import forwarder.formats"),
        (LAYERS, "delivery", "import forwarder.observe"),
        (LAYERS, "config", "import forwarder.admin"),
        (LAYERS, "observe", "import forwarder.runtime"),
        (LAYERS, "runtime", "import forwarder.cli"),
        (JOURNAL, "ingest", "import sqlite3"),
        (JOURNAL, "delivery", "import forwarder.journal"),
        (JOURNAL, "sources.cloudflare_access", "import sqlite3"),
        (JOURNAL, "sinks", "import forwarder.journal"),
        (JOURNAL, "formats", "import sqlite3"),
        (CORE, "core", "import aiohttp"),
        (CORE, "core", "import sqlite3"),
        (CORE, "core", "import socket"),
        (CORE, "core", "import forwarder.observe"),
        (FORMATS, "formats", "import aiohttp"),
        (SIMULATOR, "simulator", "import forwarder.sources.cloudflare_access"),
        (SIMULATOR, "simulator", "import forwarder.core"),
        (COMMANDS_ONLY, "runtime", "import forwarder.simulator"),
        (TESTING, "cli", "import forwarder.testing"),
        (TESTING, "sinks", "import forwarder.testing"),
        (TESTING, "core", "import forwarder.testing"),
    ],
)
def test_breaking_a_rule_fails_the_check(
    checkout: Path, rule: str, module: str, statement: str
) -> None:
    package = checkout / "forwarder" / Path(*module.split("."))
    (package / "breaks_a_rule.py").write_text(f'"""Breaks a rule."""\n\n{statement}\n')

    code, output = _lint(checkout)

    assert code == 1
    assert rule in _broken(output), output


def test_a_sink_that_imports_another_fails_the_check(checkout: Path) -> None:
    sinks = checkout / "forwarder" / "sinks"
    (sinks / "one.py").write_text('"""One sink."""\n')
    (sinks / "another.py").write_text('"""Another sink."""\n\nimport forwarder.sinks.one\n')

    code, output = _lint(checkout)

    assert code == 1
    assert {SINKS} == _broken(output), output


def test_a_new_room_must_be_given_its_place(checkout: Path) -> None:
    room = checkout / "forwarder" / "attic"
    room.mkdir()
    (room / "__init__.py").write_text('"""A room that nobody placed."""\n')

    code, output = _lint(checkout)

    assert code != 0
    assert "attic" in output
