"""What makes no sense is refused before anything is done: exit 2, what is wrong, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from forwarder.cli.program import program
from forwarder.core.errors import ConfigError

SETTINGS = """\
version: 1
state_dir: {folder}/state
accounts:
  - account_id: 023e105f4ecef8ad9ca31a8372d0c353
    api_token: simulated-token
    api_url: http://127.0.0.1:9/client/v4
sinks:
  console: {{ type: stdout }}
  disk: {{ type: file, path: {folder}/no/such/folder/events }}
"""


@pytest.fixture
def settings(tmp_path: Path) -> str:
    """Settings whose API does not answer and one of whose sinks cannot be opened."""
    path = tmp_path / "config.yaml"
    path.touch(mode=0o600)
    path.write_text(SETTINGS.format(folder=tmp_path))
    return str(path)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(program, arguments, catch_exceptions=False)


@pytest.mark.parametrize("command", ["backfill", "verify"])
def test_a_window_that_ends_before_it_begins(command: str, settings: str) -> None:
    result = invoke(command, "-c", settings, "--since", "2h", "--until", "3h")

    assert result.exit_code == 2
    assert "--until must be later than --since" in result.output


@pytest.mark.parametrize("command", ["simulate", "demo"])
@pytest.mark.parametrize(
    ("option", "value"), [("--rate", "-1"), ("--port", "70000"), ("--port", "-1")]
)
def test_a_rate_or_a_port_that_cannot_be(command: str, option: str, value: str) -> None:
    result = invoke(command, option, value)

    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output


def test_a_live_check_has_a_line_a_finding_and_one_with_what_to_do(settings: str) -> None:
    result = invoke("check", "--live", "-c", settings)

    lines = result.output.splitlines()
    (fault,) = [number for number, line in enumerate(lines) if "sink disk:" in line]
    assert result.exit_code == 1
    assert "ok       sink console: can be reached" in lines
    assert any(line.startswith("ok       state_dir ") for line in lines)
    assert lines[fault].startswith("fault    sink disk: ")
    assert lines[fault + 1] == "         -> make the folder"


@pytest.mark.parametrize(
    ("state_dir", "problem"),
    [("FOLDER/file", "is not a folder"), ("/proc/nope", "this user may not write to /proc")],
)
def test_a_check_finds_that_the_state_folder_cannot_be(
    state_dir: str, problem: str, settings: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file")
    path = Path(settings)
    path.write_text(
        path.read_text().replace(f"{tmp_path}/state", state_dir.replace("FOLDER", str(tmp_path)))
    )

    with pytest.raises(ConfigError, match=problem):
        invoke("check", "-c", settings)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["config.yaml", "file"]


@pytest.mark.parametrize(
    ("sinks", "told"),
    [
        ("sinks: {}", "sinks: found an empty mapping; must be a mapping with at least one sink"),
        (
            "sinks: { a: { type: kafka, topic: t, bootstrap_servers: [] } }",
            "sinks.a.bootstrap_servers: found an empty list; must not be empty",
        ),
        (
            "sinks: { a: { type: kafka, topic: '', bootstrap_servers: ['h:1'] } }",
            "sinks.a.topic: found ''; must not be empty",
        ),
    ],
)
def test_what_must_not_be_empty_is_told_in_words(sinks: str, told: str, settings: str) -> None:
    path = Path(settings)
    path.write_text(path.read_text().partition("sinks:")[0] + sinks)

    with pytest.raises(ConfigError) as caught:
        invoke("check", "-c", settings)

    (fault,) = caught.value.faults
    assert told in str(fault)


def test_a_day_is_no_moment_and_an_example_is_given(settings: str) -> None:
    result = invoke("backfill", "-c", settings, "--since", "2026-07-01")

    assert result.exit_code == 2
    assert "'2026-07-01' is not a time; write for example 2026-07-01T12:00:00Z" in result.output


def test_a_position_in_a_far_future(settings: str) -> None:
    where = ("--account", "023e105f4ecef8ad9ca31a8372d0c353", "--stream", "access_requests")

    result = invoke("cursors", "set", "-c", settings, *where, "--to", "2999-01-01T00:00:00Z")

    assert result.exit_code == 2
    assert "is out of range; allowed: 2000-01-01T00:00:00Z to 20" in result.output


REQUIRED = {
    "logpush job": (
        "--account",
        "acme",
        "--dataset",
        "http_requests",
        "--url",
        "https://x.example",
    ),
    "journal copy": ("--to", __file__),
    "verify": ("--since", "1h"),
    "backfill": ("--since", "1h"),
    "replay": ("--sink", "console", "--since", "1h"),
    "cursors set": ("--account", "a", "--stream", "s", "--to", "1h", "--yes"),
    "dead-letters show": ("1",),
    "dead-letters replay": ("--sink", "console"),
    "dead-letters drop": ("--sink", "console", "--yes"),
    "sinks forget": ("console", "--yes"),
}
"""What a command needs before it reads the settings."""


def leaves(group: click.Group = program, path: str = "") -> Iterator[tuple[str, click.Command]]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from leaves(command, f"{path}{name} ")
            else:
                yield f"{path}{name}", command


def test_every_command_ends_with_2_for_wrong_usage_and_for_settings_that_are_not_there() -> None:
    """The settings' faults are raised, and become 2 in one place for all commands."""
    found = dict(leaves())
    assert len(found) > 18

    for name, command in found.items():
        assert invoke(*name.split(), "--nope").exit_code == 2, name
        if any(option.name == "config" for option in command.params):
            words = (*name.split(), *REQUIRED.get(name, ()), "-c", "/nowhere/config.yaml")
            with pytest.raises(ConfigError, match="cannot be read"):
                invoke(*words)


@pytest.mark.parametrize("words", [("create",), ("shards",)])
def test_commands_of_a_shared_journal_say_that_a_file_is_none(
    words: tuple[str, ...], settings: str
) -> None:
    result = CliRunner().invoke(program, ("journal", *words, "-c", settings))

    assert isinstance(result.exception, ConfigError)
    assert "journal.type: is sqlite" in str(result.exception)
    assert "journal.type: postgres" in str(result.exception)


def test_a_journal_is_copied_to_settings_that_exist(settings: str) -> None:
    result = invoke("journal", "copy", "-c", settings, "--to", "nowhere.yaml")

    assert result.exit_code == 2
    assert "Invalid value for '--to'" in result.output
