"""Commands that need no daemon, and what they say when they need one."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import yaml
from click.testing import CliRunner, Result
from pydantic import BaseModel

from forwarder.cli.program import program
from forwarder.config.models import (
    AdminSettings,
    BatchOptions,
    EventFilter,
    JournalSettings,
    LogSettings,
    RetryOptions,
    RootSettings,
    SinkOptions,
    TracingSettings,
)
from forwarder.sources.cloudflare_access.account import (
    AccessRequestsConfig,
    AccountConfig,
    RateLimit,
    ScimUpdatesConfig,
)
from forwarder.transport.settings import ServerTlsSettings, TlsSettings

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).with_name("forwarder")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(program, arguments, catch_exceptions=False)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """The shipped settings, with their state in a folder of the test's own."""
    text = (ROOT / "config.yaml").read_text()
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("${FORWARDER_STATE_DIR:-./state}", str(tmp_path / "state")))
    return path


def test_the_shipped_settings_are_good_as_they_stand() -> None:
    result = invoke("check", "-c", str(ROOT / "config.yaml"))

    assert result.exit_code == 0
    assert "the settings are valid: 1 account(s), 1 sink(s)" in result.output


def test_the_settings_in_force_are_shown_without_secrets(settings: Path) -> None:
    shown = yaml.safe_load(invoke("config", "show", "-c", str(settings)).output)

    assert shown["accounts"][0]["api_token"] == "**********"
    assert shown["accounts"][0]["rate_limit"] == {"requests": 1200, "per": "5m", "share": 0.8}
    assert shown["sinks"]["console"]["when_full"] == "block"


def test_the_schema_accepts_the_shipped_settings() -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - only this test needs it

    schema = orjson.loads(invoke("config", "schema").output)
    Draft202012Validator.check_schema(schema)

    Draft202012Validator(schema).validate(yaml.safe_load((ROOT / "config.yaml").read_text()))


def test_every_plugin_is_listed_and_can_be_imported() -> None:
    rows = orjson.loads(invoke("plugins", "--json").output)

    assert {"source", "sink", "format"} == {row["kind"] for row in rows}
    assert [row for row in rows if row["error"] or not row["summary"]] == []


def test_status_without_a_daemon_says_so(settings: Path) -> None:
    result = subprocess.run(
        [SCRIPT, "status", "-c", settings], capture_output=True, text=True, timeout=120, check=False
    )

    assert result.returncode == 1
    assert result.stderr.startswith("forwarder: no daemon answers in ")
    assert len(result.stderr.splitlines()) == 1


def test_no_sql_is_printed_for_an_address_that_is_none(settings: Path) -> None:
    """What is printed may go straight into psql: half a transaction is no SQL."""
    shared = {"type": "postgres", "dsn": "postgres://user:a@b@db/x"}
    settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), "journal": shared}))
    result = CliRunner().invoke(program, ["journal", "create", "--print", "-c", str(settings)])

    assert "journal.dsn is not a valid" in str(result.exception)
    assert "" == result.stdout


def test_a_port_in_use_is_told_by_the_simulator() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = invoke("simulate", "--port", str(taken.getsockname()[1]))

    assert result.exit_code == 1
    assert result.output.rstrip().endswith(": Address already in use")


@pytest.mark.parametrize(("options", "is_json"), [((), False), (("--json",), True)])
def test_the_demonstration_ends_by_itself_and_leaves_only_events_on_stdout(
    options: tuple[str, ...], *, is_json: bool
) -> None:
    result = subprocess.run(
        [SCRIPT, "demo", "--for", "5s", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )

    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert [line for line in lines if "Access login allowed: " in line]
    assert all(line.startswith("{") == is_json for line in lines)
    assert "status: http://127.0.0.1:" in result.stderr
    summary = result.stderr.splitlines()[-1]
    assert summary.startswith("demo: rows shown by the API: ")


def test_a_demonstration_nobody_reads_any_more_ends() -> None:
    result = subprocess.run(
        f"{SCRIPT} demo --for 10m | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "model",
    [
        RootSettings,
        JournalSettings,
        AdminSettings,
        ServerTlsSettings,
        LogSettings,
        TracingSettings,
        AccountConfig,
        AccessRequestsConfig,
        ScimUpdatesConfig,
        RateLimit,
        TlsSettings,
        SinkOptions,
        BatchOptions,
        RetryOptions,
        EventFilter,
    ],
)
def test_the_shipped_settings_name_every_key(model: type[BaseModel]) -> None:
    """Only the keys of a sink's own are left out."""
    text = (ROOT / "config.yaml").read_text()

    names = [field.alias or name for name, field in model.model_fields.items()]
    assert [key for key in names if not re.search(rf"\b{key}(_file)?:", text)] == []
