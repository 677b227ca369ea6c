"""The image is built, starts as anybody, answers its health check, and stops when it is asked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder import __version__
from tests.integration.image import SAID, Buildah, as_process_1
from tests.integration.unavailable import Unavailable

pytestmark = [pytest.mark.integration, pytest.mark.lengthy, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Buildah, str]:
    try:
        buildah = Buildah(tmp_path_factory.mktemp("image"))
        return buildah, buildah.image(buildah.base())
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def root(built: tuple[Buildah, str]) -> Iterator[Path]:
    buildah, image = built
    with buildah.mounted(image) as root:
        yield root


@pytest.fixture(scope="module")
def image(built: tuple[Buildah, str]) -> Mapping[str, Any]:
    buildah, name = built
    return buildah.settings(name)


IMAGES_OWN = 65532


def environment(image: Mapping[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in image["Env"])


def write_settings(root: Path, state: str) -> None:
    account = {"account_id": "a" * 32, "api_token": "t", "api_url": "http://127.0.0.1:9/client/v4"}
    settings = {"version": 1, "accounts": [account], "sinks": {"nowhere": {"type": "null"}}}
    rest = {"state_dir": state, "admin": {"listen": "127.0.0.1:0"}}
    path = root / "etc/forwarder/config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings | rest))


def mount(root: Path, uid: int) -> str:
    """Make a folder as Kubernetes mounts a volume: root's, and writable for the pod's group."""
    volume = root / f"volume-{uid}"
    volume.mkdir()
    os.chown(volume, 0, uid if uid == IMAGES_OWN else 0)
    volume.chmod(0o2770)
    return f"/{volume.name}"


# OpenShift gives any uid, with group 0.
@pytest.mark.parametrize("volume", [True, False], ids=["volume", "no volume"])
@pytest.mark.parametrize("user", [f"{IMAGES_OWN}:{IMAGES_OWN}", "1000680000:0"])
def test_it_runs_as_anybody_and_sigterm_ends_it(
    root: Path, image: Mapping[str, Any], user: str, *, volume: bool
) -> None:
    uid = int(user.partition(":")[0])
    folder = mount(root, uid) if volume else "/var/lib/forwarder"
    write_settings(root, f"{folder}/state-{uid}")

    command = [*image["Entrypoint"], *image["Cmd"]]
    with as_process_1(root, user, command, environment(image)) as outer:
        assert outer.stderr is not None
        started = any('"started"' in line for line in outer.stderr)
        (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        status = Path(f"/proc/{inner}/status").read_text()
        os.kill(int(inner), getattr(signal, image.get("StopSignal", "SIGTERM")))
        rest_of_log = outer.stderr.read()

    assert started
    assert re.search(rf"^Uid:\s+{uid}\s", status, re.MULTILINE)
    assert re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE)
    assert (outer.returncode, '"stopped"' in rest_of_log) == (0, True)


def test_it_brings_this_version_with_every_plugin(root: Path, image: Mapping[str, Any]) -> None:
    def run(*words: str) -> str:
        command = ["chroot", "--userspec=65532:65532", str(root), *words]
        done = subprocess.run(
            command, env=environment(image), capture_output=True, text=True, check=True
        )
        return done.stdout

    assert __version__ in run("forwarder", "--version")
    plugins = json.loads(run("forwarder", "plugins", "--json"))
    assert [one for one in plugins if one["error"]] == []
    run("python", "-c", "import arro3.io, obstore, opentelemetry.sdk, psycopg")


def test_it_says_what_it_is(image: Mapping[str, Any]) -> None:
    assert image["User"] == "65532:65532"
    said = {
        name.rpartition(".")[2].upper(): text
        for name, text in image["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert said["TITLE"] == "cloudflare-access-forwarder"
    assert {name: said[name] for name in SAID} == SAID
    assert "livez" in " ".join(image["Healthcheck"]["Test"]) + str(image["Env"])
