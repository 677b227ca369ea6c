"""``config init`` writes a settings file that is valid, or nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from forwarder.cli.program import program
from forwarder.config.loading import load
from forwarder.config.plugins import InstalledPlugins

SCRIPT = Path(sys.executable).with_name("forwarder")
SINKS = sorted(InstalledPlugins().entries("sinks"))


def init(path: Path, *words: str) -> Result:
    return CliRunner().invoke(program, ["config", "init", "-o", str(path), *words])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


@pytest.mark.parametrize("sink", SINKS)
def test_every_sink_gets_a_file_that_is_valid_and_needs_no_answer(sink: str, path: Path) -> None:
    done = init(path, "--sink", sink)

    written = yaml.safe_load(path.read_text())
    assert (done.exit_code, done.output.splitlines()[0]) == (0, f"{path}: written and valid. Next:")
    assert written["sinks"][sink if sink != "null" else None]["type"] in (sink, None)
    assert "  export CLOUDFLARE_API_TOKEN=..." in done.output.splitlines()
    assert "sinks." not in done.output


def test_a_variable_leads_to_a_simulator_and_cloudflare_is_the_default(path: Path) -> None:
    init(path, "--sink", "stdout")
    given = {"CLOUDFLARE_ACCOUNT_ID": "0" * 32, "CLOUDFLARE_API_TOKEN": "t"}
    simulator = "http://127.0.0.1:8787/client/v4"
    found = [
        load(path, given | more).accounts[0].config.api_url
        for more in ({}, {"CLOUDFLARE_API_URL": simulator})
    ]

    assert ["https://api.cloudflare.com/client/v4", simulator] == found


def test_an_extra_that_is_missing_is_named_at_once(path: Path) -> None:
    without = "import sys; sys.modules['obstore'] = None; from forwarder.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, "config", "init", "-o", path, "--sink", "object_store"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, path.exists()) == (0, True)
    assert done.stderr.splitlines()[1] == (
        "  sinks.object_store: obstore is not installed "
        "(pip install 'cloudflare-access-forwarder[object-store]')"
    )


def test_what_is_given_is_written_and_a_secret_stays_in_its_file(
    path: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("hunter2-hunter2")
    words = ("--account-id", "0" * 32, "--token-file", str(token))

    done = init(
        path,
        *("--sink", "kafka", *words),
        *("--set", "bootstrap_servers=a:9092, b:9092", "--set", "topic=access"),
    )

    written = yaml.safe_load(path.read_text())
    assert done.exit_code == 0
    assert written["accounts"][0]["api_token_file"] == str(token)
    assert written["sinks"]["kafka"] == {
        "type": "kafka",
        "bootstrap_servers": ["a:9092", "b:9092"],
        "topic": "access",
    }
    assert "hunter2" not in path.read_text() + done.output
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--sink", "kafk"), "no sink type is called kafk; there is"),
        ((), "add --sink TYPE; there is elasticsearch"),
        (("--sink", "kafka", "--set", "topi=1"), "forwarder: sinks.kafka.topi: unknown key"),
        (("--sink", "kafka", "--set", "topic"), "--set topic: write KEY=VALUE"),
        (("--sink", "file", "--account-id", "acme"), "forwarder: accounts[0].account_id: "),
        (("--sink", "file", "--token-file", "/no/such"), "/no/such"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    words: tuple[str, ...], problem: str, path: Path
) -> None:
    refused = subprocess.run(
        [SCRIPT, "config", "init", "-o", path, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert refused.returncode == 2
    assert problem in refused.stderr
    assert list(path.parent.iterdir()) == []


def test_a_file_that_exists_is_replaced_only_by_force(path: Path) -> None:
    path.write_text("mine")

    refused = init(path, "--sink", "stdout")
    kept = path.read_text()
    forced = init(path, "--sink", "stdout", "--force")

    assert (refused.exit_code, kept, forced.exit_code) == (2, "mine", 0)
    assert "add --force to replace it" in refused.output


def test_on_a_terminal_it_asks_and_an_empty_answer_means_a_variable(path: Path) -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.execv(SCRIPT, ["forwarder", "config", "init", "-o", str(path)])
    os.write(terminal, b"loki\n" + b"a" * 32 + b"\n\nhttps://loki.example.com\n")
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    written = yaml.safe_load(path.read_text())
    assert status == 0
    assert b"Address of Loki [$LOKI_URL]" in shown
    assert written["accounts"][0]["account_id"] == "a" * 32
    assert written["accounts"][0]["api_token"] == "${CLOUDFLARE_API_TOKEN}"
    assert written["sinks"]["loki"]["url"] == "https://loki.example.com"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says that the other side is closed with an error
        return b""


def test_an_address_can_come_out_of_a_file(path: Path) -> None:
    secret = path.with_name("url")
    secret.write_text("https://collector.example/hush")

    done = init(path, "--sink", "http", "--set", f"url_file={secret}")

    assert done.exit_code == 0
    sink = yaml.safe_load(path.read_text())["sinks"]["http"]
    assert sink == {"type": "http", "url_file": str(secret)}
