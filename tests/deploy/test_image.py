"""The image, as far as it can be judged without a container engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from forwarder import __version__
from tests.deploy.dockerfile import Instruction, Stage, instructions

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
STEPS = instructions(DOCKERFILE.read_text(encoding="utf-8"))
BUILD, FINAL = 0, 1
PINNED = f"python@sha256:{'0' * 64}"


def named(name: str, stage: int = FINAL) -> list[Instruction]:
    return [step for step in STEPS if step.name == name and step.stage == stage]


def only(name: str) -> str:
    (step,) = named(name)
    return step.text


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/livez"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def health(url: str) -> int:
    command = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
    command[0] = sys.executable
    environment = {"FORWARDER_LIVEZ": url}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)

    assert (ran.stdout, ran.returncode) == ("", 0)


def test_everything_installed_is_pinned_by_its_hash() -> None:
    installs = re.findall(
        r"pip (?:--python \S+ )?install .*?(?=&&|$)",
        " && ".join(step.text for step in named("RUN", BUILD)),
    )

    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes" in install or "--no-index" in install


def test_the_daemon_is_process_1_and_hears_sigterm() -> None:
    assert json.loads(only("ENTRYPOINT")) == ["env", "--block-signal=TERM", "forwarder"]
    assert json.loads(only("CMD")) == ["run"]
    assert only("STOPSIGNAL") == "SIGTERM"


def test_it_runs_as_nobody_in_particular_and_writes_only_its_state() -> None:
    assert only("USER") == "65532:65532"
    assert json.loads(only("VOLUME")) == ["/var/lib/forwarder"]
    assert [step.text for step in named("COPY")] == ["--from=build /opt/forwarder /opt/forwarder"]


def test_make_pins_the_base_and_says_what_the_image_is(tmp_path: Path) -> None:
    calls, engine = tmp_path / "calls", tmp_path / "engine"
    engine.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$1" != image ] || echo {PINNED}\n')
    engine.chmod(0o700)
    subprocess.run(
        ["make", "image", f"ENGINE={engine}", "IMAGE=registry/f", "SOURCE=https://forge/f"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    pulled, *_, built = calls.read_text().splitlines()
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    (base,) = (step.text for step in STEPS if step.name == "ARG" and "=python:" in step.text)

    assert pulled == f"pull {base.partition('=')[2]}"
    assert f"--tag registry/f:{__version__} " in built
    given = dict(re.findall(r"--build-arg (\w+)=(\S*)", built))
    assert given == {
        "PYTHON_IMAGE": PINNED,
        "VERSION": __version__,
        "REVISION": commit,
        "SOURCE": "https://forge/f",
    }
    assert all(f'="${{{name}}}"' in only("LABEL") for name in given)


def test_the_state_folder_is_writable_for_the_group_that_openshift_gives() -> None:
    assert "--group 0 --mode 0770 /var/lib/forwarder" in only("RUN")


def test_the_user_is_the_charts() -> None:
    values = (ROOT / "helm/cloudflare-access-forwarder/values.yaml").read_text()

    assert "runAsUser: 65532" in values
    assert "runAsGroup: 65532" in values


def test_the_health_check_follows_livez() -> None:
    with answering(200) as well, answering(503) as stuck:
        assert health(well) == 0
        assert health(stuck) != 0
    assert health(well) != 0


def test_all_that_is_copied_is_let_through_by_dockerignore() -> None:
    admitted = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {word for step in named("COPY", BUILD) for word in step.text.split()[:-1]}

    assert copied <= admitted
    assert all((ROOT / path).exists() for path in copied)


@pytest.mark.integration
@pytest.mark.lengthy
@pytest.mark.timeout(600)
def test_the_build_steps_give_a_program_that_runs(tmp_path: Path) -> None:
    steps = [step for step in STEPS if step.stage == BUILD]
    Stage(ROOT, tmp_path).run(steps)

    program = tmp_path / "opt/forwarder/bin/forwarder"
    ran = subprocess.run([program, "plugins"], capture_output=True, text=True, check=True, cwd="/")
    extras = "arro3.io, obstore, opentelemetry.sdk, psycopg"
    modules = subprocess.run(
        [
            program.with_name("python"),
            "-c",
            f"import {extras}, forwarder; print(forwarder.__file__)",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )

    assert "cloudflare_access" in ran.stdout
    assert modules.stdout.startswith(str(tmp_path / "opt/forwarder/lib"))
    assert not program.with_name("pip").exists()
