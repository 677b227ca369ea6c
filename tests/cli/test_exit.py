"""How commands end when they cannot do their work: the status, and a line that says what to do."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("forwarder")


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.touch(mode=0o600)
    path.write_text(f"""
version: 1
state_dir: {tmp_path}/state
accounts:
  - account_id: 023e105f4ecef8ad9ca31a8372d0c353
    api_token: simulated-token
    api_url: http://127.0.0.1:9/client/v4
sinks: {{ console: {{ type: stdout }} }}
admin: {{ listen: off }}
""")
    return path


def ran(settings: Path, *arguments: str) -> tuple[int, str]:
    """Run the command; return its status and what it said on stderr."""
    done = subprocess.run(
        [SCRIPT, *arguments, "-c", settings], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr.strip()


def with_a_journal(settings: Path) -> Path:
    """Let a command make the journal; return its file."""
    status, said = ran(settings, "dead-letters", "drop", "--yes", "--sink", "console")
    assert status == 0, said
    return settings.parent / "state" / "journal.db"


def test_a_state_folder_that_cannot_be_is_a_fault_of_the_settings(settings: Path) -> None:
    (settings.parent / "state").write_text("a file")

    status, said = ran(settings, "run")

    assert status == 2
    assert said == (
        f"forwarder: state_dir: {settings.parent}/state cannot be used: File exists (it must be a"
        " folder that this user may write)"
    )


@pytest.mark.parametrize(
    "command", ["run", "check", "check --journal", "journal shards", "journal create", "gaps list"]
)
def test_a_connection_string_that_cannot_be_read_is_a_fault_of_the_settings(
    settings: Path, command: str
) -> None:
    dsn = "postgres://forwarder:s3cret@with@db/forwarder"
    settings.write_text(f"{settings.read_text()}journal: {{ type: postgres, dsn: '{dsn}' }}\n")

    status, said = ran(settings, *command.split())

    assert status == 2, said
    assert "journal.dsn is not a valid connection string" in said
    assert "s3cret" not in said


def test_an_error_is_told_with_its_hint(settings: Path) -> None:
    with_a_journal(settings)
    status, said = ran(settings, "verify", "--since", "1h")

    assert status == 1
    assert said.endswith("(check that it runs and that host and port are right)")


@pytest.mark.parametrize("action", [["list"], ["drop", "--yes"], ["replay"]])
def test_dead_letters_of_an_unknown_sink_are_an_error(settings: Path, action: list[str]) -> None:
    with_a_journal(settings)

    status, said = ran(settings, "dead-letters", *action, "--sink", "nope")

    assert status == 2
    assert said.endswith("Error: no sink is called nope; there is console")


def test_damage_is_listed_line_by_line_with_one_remedy_at_the_end(settings: Path) -> None:
    path = with_a_journal(settings)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("DELETE FROM progress")

    status, said = ran(settings, "check", "--journal")

    *damages, remedy = said.splitlines()
    assert status == 1
    assert damages == ["damaged: a sink has no place"]
    assert remedy.startswith(f"{path}: restore the file from a backup, or move the folder away")
