"""``forwarder status`` beside a daemon whose status this release does not know."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forwarder import __version__
from forwarder.admin.control import ControlSocket

SCRIPT = Path(sys.executable).with_name("forwarder")
SETTINGS = """
version: 1
state_dir: {folder}/state
accounts: [{{ account_id: 023e105f4ecef8ad9ca31a8372d0c353, api_token: t }}]
sinks: {{ console: {{ type: stdout }} }}
"""


@pytest.mark.parametrize("words", [[], ["--watch"], ["--json"]])
async def test_it_is_shown_as_json_or_refused_in_one_sentence(
    tmp_path: Path, words: list[str]
) -> None:
    async def status(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"version": "9.9.9", "state": "well"}

    settings = tmp_path / "config.yaml"
    settings.write_text(SETTINGS.format(folder=tmp_path))
    (tmp_path / "state").mkdir(mode=0o700)
    control = ControlSocket(tmp_path / "state", {"status": status})
    await control.start()
    process = await asyncio.create_subprocess_exec(
        SCRIPT, "status", *words, "-c", settings, stdout=PIPE, stderr=PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    await control.aclose()

    assert process.returncode == 1
    if words == ["--json"]:
        assert (b'"version": "9.9.9"' in out, err) == (True, b"")
    else:
        assert err.count(b"\n") == 1
        assert b"the forwarder has version 9.9.9, this command has version " in err
        assert __version__.encode() in err
