"""The systemd unit: hardened, patient when it stops, and its example settings load."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from forwarder.config import load

FOLDER = Path(__file__).parents[2] / "deploy/systemd"
UNIT = FOLDER / "cloudflare-access-forwarder.service"
HIGHEST_EXPOSURE = 1.1
ANALYZE = shutil.which("systemd-analyze")


def settings_of(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)


def test_it_has_longer_to_stop_than_the_forwarder_takes() -> None:
    assert int(settings_of("TimeoutStopSec")[0]) > 25


def test_wrong_settings_are_not_tried_for_ever() -> None:
    assert settings_of("Restart") == ["on-failure"]
    assert settings_of("RestartPreventExitStatus") == ["2"]


def test_a_reload_is_what_the_daemon_understands() -> None:
    assert settings_of("ExecReload") == ["/bin/kill -HUP $MAINPID"]


def test_the_example_settings_load_with_the_units_credentials(tmp_path: Path) -> None:
    for credential in settings_of("LoadCredential"):
        (tmp_path / credential.partition(":")[0]).write_text("t0ken")
        (tmp_path / credential.partition(":")[0]).chmod(0o400)

    settings = load(FOLDER / "config.yaml", {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert settings.warnings == ()
    assert str(settings.root.state_dir).startswith(f"/var/lib/{settings_of('StateDirectory')[0]}/")


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_the_exposure_stays_low() -> None:
    ran = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze cannot judge a file here: {ran.stderr.strip()}")

    assert float(found[1]) <= HIGHEST_EXPOSURE
