"""What a shell offers after a tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("forwarder")
_BASH = """
eval "$(forwarder completion bash)"
COMP_WORDS=({words}) COMP_CWORD={place}
_forwarder_completion forwarder
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_script_asks_the_program_itself(shell: str) -> None:
    printed = subprocess.run(
        [SCRIPT, "completion", shell], capture_output=True, text=True, timeout=120, check=True
    ).stdout

    assert f"_FORWARDER_COMPLETE={shell}_complete" in printed


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("forwarder sta", "status"),
        ("forwarder dead-letters r", "replay"),
        ("forwarder completion z", "zsh"),
        ("forwarder status --w", "--watch"),
    ],
)
def test_bash_offers_commands_options_and_choices(words: str, offered: str) -> None:
    script = _BASH.format(words=words, place=words.count(" "))
    path = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    printed = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout

    assert printed.split() == [offered]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("forwarder replay --sink spl", ["splunk"]),
        ("forwarder preview --sink ''", ["disk", "splunk"]),
        ("forwarder backfill --account a", ["acme"]),
        ("forwarder verify --stream acce", ["access_requests"]),
        ("forwarder replay -c no-such-file.yaml --sink spl", []),
    ],
)
def test_bash_offers_the_names_of_the_settings(
    words: str, offered: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(
        "version: 1\naccounts: [{account_id: a, name: acme}]\nsinks: {splunk: {}, disk: {}}\n"
    )
    script = _BASH.format(words=words, place=words.count(" "))
    path = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    printed = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert (printed.stdout.split(), printed.stderr) == (offered, "")
