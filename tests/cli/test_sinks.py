"""A sink that left the settings is shown with what waits for it, and can be given up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forwarder.cli.program import program

_SETTINGS = """
version: 1
state_dir: {folder}/state
accounts:
  - account_id: 023e105f4ecef8ad9ca31a8372d0c353
    api_token: simulated-token
    api_url: http://127.0.0.1:9/client/v4
sinks: {{ {sink}: {{ type: stdout }} }}
admin: {{ listen: off }}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return settings with sink ``new`` over a journal that knows sink ``old``."""
    path = tmp_path / "config.yaml"
    path.touch(mode=0o600)
    path.write_text(_SETTINGS.format(folder=tmp_path, sink="old"))
    run(path, "dead-letters", "drop", "--sink", "old", "--yes")
    path.write_text(_SETTINGS.format(folder=tmp_path, sink="new"))
    run(path, "dead-letters", "drop", "--sink", "new", "--yes")
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(program, [*words, "-c", str(config)])


def states(config: Path) -> dict[str, str]:
    found = json.loads(run(config, "sinks", "list", "--json").stdout)
    return {sink["sink"]: sink["state"] for sink in found}


def test_an_absent_sink_is_listed_and_can_be_forgotten(config: Path) -> None:
    before = states(config)
    done = run(config, "sinks", "forget", "old", "--yes")

    assert {"old": "absent", "new": "in the settings"} == before
    assert done.exit_code == 0
    assert "old is forgotten: 0 event(s) that waited and 0 dead letter(s) are lost" in done.output
    assert {"new": "in the settings"} == states(config)


def test_a_sink_of_the_settings_is_not_forgotten(config: Path) -> None:
    refused = run(config, "sinks", "forget", "new", "--yes")

    assert refused.exit_code == 2
    assert "new is in the settings; remove it there first" in refused.output
    assert {"old": "absent", "new": "in the settings"} == states(config)


def test_an_unknown_sink_is_refused_with_the_known_ones(config: Path) -> None:
    refused = run(config, "sinks", "forget", "nope", "--yes")

    assert refused.exit_code == 2
    assert "no sink is called nope" in refused.output
