"""The command line starts fast, stands alone, and tells every fault in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import pytest
from click.testing import CliRunner

from forwarder import __version__
from forwarder.cli.program import COMMANDS, program

SCRIPT = Path(sys.executable).with_name("forwarder")
HEAVY = ("aiohttp", "orjson", "prometheus_client", "pydantic", "rich", "structlog", "yaml")


def forwarder(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['forwarder', '--help']; import atexit;"
        f"atexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules]));"
        "from forwarder.cli import main; main()"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    ).stdout

    assert printed.splitlines()[-1] == "[]"


def test_help_costs_little_more_than_python_and_click() -> None:
    """In processor time, since this machine may be busy, and the best of five."""

    def seconds(*command: str | Path) -> float:
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        after = getrusage(RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    least = min(seconds(sys.executable, "-c", "import click") for _ in range(5))
    assert min(seconds(SCRIPT, "--help") for _ in range(5)) < 2.5 * least


def test_the_overview_names_every_command() -> None:
    printed = CliRunner().invoke(program, ["--help"]).output

    for name, entry in COMMANDS.items():
        assert f"  {name} " in printed
        assert entry.summary in printed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(program, [name, "--help"])

    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: forwarder {name} ") or "Usage:" in result.output
    assert len(result.output.splitlines()) > 4


def test_the_version_is_told() -> None:
    assert forwarder("--version").stdout == f"forwarder {__version__}\n"


def test_a_misspelt_command_is_a_usage_error_with_the_right_name() -> None:
    result = forwarder("simulat")

    assert result.returncode == 2
    assert "Did you mean simulate?" in result.stderr


@pytest.mark.parametrize("words", [(), ("journal",)])
def test_a_group_without_a_command_shows_its_help_once(words: tuple[str, ...]) -> None:
    result = forwarder(*words)

    assert result.returncode == 2
    assert result.stderr.startswith("Usage: forwarder ")
    assert result.stderr.count("Usage:") == 1
    assert "\nCommands:\n" in result.stderr


def test_settings_that_are_not_there_are_told_in_one_line() -> None:
    result = forwarder("run", "-c", "/nowhere/config.yaml")

    assert result.returncode == 2
    assert result.stderr == (
        "forwarder: /nowhere/config.yaml: the settings cannot be read: No such file or directory"
        " (name the file with -c)\n"
    )


def test_every_fault_has_a_line_and_there_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("version: 1\naccounts: []\nsinks: { a: { type: stdot } }\nlgo: {}\n")

    for command in ("run", "check", "preview"):
        result = forwarder(command, "-c", str(path))
        assert result.returncode == 2
        assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == ["forwarder"] * 3
        assert f"{path}:4: lgo: unknown key" in result.stderr
        assert "did you mean stdout?" in result.stderr
