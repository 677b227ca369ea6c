"""``forwarder logpush job`` prints, creates and checks the job that suits the receiver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from forwarder.cli.logpush import FIELDS
from forwarder.cli.program import program

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
SECRET = "the secret+of the job"
SETTINGS = """
version: 1
state_dir: {folder}/state
accounts:
  - {{ account_id: {account}, name: acme, api_token: a-token, api_url: "{url}" }}
sinks: {{ console: {{ type: stdout }} }}
admin: {{ listen: off }}
logpush: {{ listen: "127.0.0.1:0", secret_file: {folder}/secret }}
"""
DESTINATION = "https://push.example.com/acme/http_requests"


class Api(ThreadingHTTPServer):
    """Cloudflare's endpoint of jobs: remembers what it was asked, and answers what a test says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str, Any]] = []
        self.answer: dict[str, Any] = {"success": True, "result": {"id": 7}}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/client/v4"


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        token = self.headers.get("Authorization", "")
        self.server.asked.append((self.command, self.path, token, body))
        answer = json.dumps(self.server.answer).encode()
        self.send_response(200 if self.server.answer["success"] else 403)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def config(tmp_path: Path, api: Api) -> Path:
    path, secret = tmp_path / "config.yaml", tmp_path / "secret"
    for file in (path, secret):
        file.touch(mode=0o600)
    secret.write_text(f"{SECRET}\nthe-old-one\n")
    path.write_text(SETTINGS.format(folder=tmp_path, account=ACCOUNT, url=api.url))
    return path


def job(config: Path, *words: str, dataset: str = "http_requests") -> Result:
    given = ("--account", "acme", "--dataset", dataset, "--url", "https://push.example.com/")
    return CliRunner().invoke(program, ["logpush", "job", *given, *words, "-c", str(config)])


def test_the_job_is_printed_without_its_secret(config: Path, api: Api) -> None:
    done = job(config)
    printed = json.loads(done.stdout)

    assert done.exit_code == 0
    assert printed["destination_conf"].startswith(f"{DESTINATION}?header_Authorization=")
    assert "the secret" not in done.output
    assert (5_000_000, 10_000) == (printed["max_upload_bytes"], printed["max_upload_records"])
    assert printed["output_options"]["timestamp_format"] == "rfc3339ns"
    assert {"RayID", "RequestHeaders"} <= set(printed["output_options"]["field_names"])
    assert api.asked == []


def test_every_known_dataset_has_its_time_among_the_fields() -> None:
    times = {"CreatedAt", "ActionTimestamp", "Timestamp", "EdgeStartTimestamp", "SessionEndTime"}

    assert [name for name, fields in FIELDS.items() if not times & set(fields.split())] == []


def test_a_job_is_created_with_the_newest_secret(config: Path, api: Api) -> None:
    done = job(config, "--create", dataset="access_requests")

    ((method, path, token, sent),) = api.asked
    assert done.output == "job 7 was created\n"
    assert ("POST", f"/client/v4/accounts/{ACCOUNT}/logpush/jobs") == (method, path)
    assert token == "Bearer a-token"
    assert sent["destination_conf"] == (
        "https://push.example.com/acme/access_requests"
        "?header_Authorization=the%20secret%2Bof%20the%20job"
    )


def test_a_zone_and_a_token_of_its_own_can_be_named(config: Path, api: Api, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("another\n")
    job(config, "--create", "--zone", "z1", "--token-file", str(token))

    assert [("/client/v4/zones/z1/logpush/jobs", "Bearer another")] == [
        (path, given) for _, path, given, _ in api.asked
    ]


def test_jobs_that_push_there_are_shown_with_what_is_wrong(config: Path, api: Api) -> None:
    api.answer["result"] = [
        {"id": 1, "destination_conf": f"{DESTINATION}?header_X=s", "enabled": False}
        | {"error_message": "HTTP 503", "last_error": "2026-11-30", "last_complete": None},
        {"id": 2, "destination_conf": "https://elsewhere.example.com/x", "enabled": True},
    ]
    shown = job(config, "--check", "--zone", "z1")
    api.answer["result"] = []
    none = job(config, "--check", "--zone", "z1")

    assert shown.output == (
        "job 1: DISABLED, last complete never, failed at 2026-11-30: HTTP 503\n"
    )
    assert none.output == f"no job pushes to {DESTINATION}\n"


def test_a_refusal_is_told_in_cloudflares_words_and_with_what_is_needed(
    config: Path, api: Api
) -> None:
    api.answer = {"success": False, "errors": [{"code": 1004, "message": "not allowed"}]}
    refused = job(config, "--create", "--zone", "z1")

    assert refused.exit_code == 1
    assert "refuses: not allowed" in str(refused.exception)
    assert "the secret" not in f"{refused.exception}{refused.output}"


def test_usage_errors_name_what_is_missing(config: Path) -> None:
    unknown = job(config, dataset="new_dataset")
    named = job(config, "--field", "Datetime", dataset="new_dataset")
    plain = job(config, "--url", "http://push.example.com")
    without_zone = job(config, "--create")
    config.write_text(config.read_text().partition("logpush:")[0])
    off = job(config)

    assert (2, 0, 2) == (unknown.exit_code, named.exit_code, off.exit_code)
    assert (2, 2) == (plain.exit_code, without_zone.exit_code)
    assert "Cloudflare pushes over https only" in plain.output
    assert "jobs of http_requests belong to a zone: --zone" in without_zone.output
    assert "the fields of new_dataset are not known" in unknown.output
    assert "the receiver is off" in off.output
