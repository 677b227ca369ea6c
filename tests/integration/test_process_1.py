"""As process 1, which an image's entry point is, the daemon still ends when it is asked to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.prometheus.daemons import FORWARDER

pytestmark = pytest.mark.integration

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]
if os.geteuid():
    UNSHARE += ["--user", "--map-root-user"]


@pytest.fixture
def unshare() -> list[str]:
    """A command that makes its child process 1 of a namespace."""
    able = (
        shutil.which("unshare") and subprocess.run([*UNSHARE, "true"], check=False).returncode == 0
    )
    if not able:
        pytest.skip("no process namespace can be made here: that takes Linux, and root or users'")
    return UNSHARE


def test_sigterm_ends_process_1_in_order(unshare: list[str], tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    settings.touch(mode=0o600)
    account = {"account_id": "a" * 32, "api_token": "t", "api_url": "http://127.0.0.1:9/client/v4"}
    sinks = {"nowhere": {"type": "null"}}
    rest = {"state_dir": str(tmp_path / "state"), "admin": {"listen": "127.0.0.1:0"}}
    settings.write_text(
        yaml.safe_dump({"version": 1, "accounts": [account], "sinks": sinks} | rest)
    )
    command = [*unshare, str(FORWARDER), "run", "-c", str(settings)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as outer:
        assert outer.stderr is not None
        assert any('"started"' in line for line in outer.stderr)
        (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        subprocess.run(["kill", f"-{signal.SIGTERM.value}", inner], check=True)
        rest_of_log = outer.stderr.read()

    assert outer.returncode == 0
    assert '"stopped"' in rest_of_log
