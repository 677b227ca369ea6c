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

from forwarder.cli.program import program
from forwarder.sources.logpush.jobs import FIELDS

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


URL = ("--url", "https://push.example.com/")


def job(config: Path, *words: str, dataset: str = "http_requests", url: Any = URL) -> Result:
    given = ("--account", "acme", "--dataset", dataset, *url)
    return CliRunner().invoke(program, ["logpush", "job", *given, *words, "-c", str(config)])


def test_the_job_is_printed_without_its_secret(config: Path, api: Api) -> None:
    done = job(config, "--zone", "z1")
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
    def listed(number: int, address: str) -> dict[str, Any]:
        return {"id": number, "destination_conf": f"https://{address}?header_X=hidden"}

    failed = {"error_message": "HTTP 503", "last_error": "2026-11-30T08:00:00Z"}
    api.answer["result"] = [
        {**listed(1, "push.example.com/acme/http_requests"), "enabled": False, **failed},
        {**listed(2, f"push.example.com/{ACCOUNT}/http_requests"), "enabled": True},
        listed(3, "push.example.com/acme/firewall_events"),
        {**listed(4, "staging.example.com/acme/http_requests"), "enabled": True, **failed},
        listed(5, "push.example.com/other/http_requests"),
    ]
    there = job(config, "--check", "--zone", "z1")
    anywhere = job(config, "--check", "--zone", "z1", url=())
    api.answer["result"] = None
    none = job(config, "--check", "--zone", "z1")

    shown = [line for line in there.output.splitlines() if "->" not in line]
    assert shown[0] == (
        "ok       logpush http_requests: job 1 to https://push.example.com/acme/http_requests "
        "is disabled, and another job pushes this dataset"
    )
    assert ["job 1", "job 1", "job 2", "job 2"] == [line.split(": ")[1][:5] for line in shown]
    assert (0, 1, 0) == (there.exit_code, anywhere.exit_code, none.exit_code)
    assert "job 4 to https://staging.example.com/acme/http_requests" in anywhere.output
    assert "no job pushes this dataset here" in none.output
    assert "hidden" not in there.output + anywhere.output


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
    plain = job(config, "--zone", "z1", "--url", "http://push.example.com")
    nowhere = job(config, "--zone", "z1", url=())
    config.write_text(config.read_text().partition("logpush:")[0])
    off = job(config)

    assert (2, 0, 2) == (unknown.exit_code, named.exit_code, off.exit_code)
    assert (2, 2) == (plain.exit_code, nowhere.exit_code)
    assert "Cloudflare pushes over https only" in plain.output
    assert "--url is missing" in nowhere.output
    assert "the fields of new_dataset are not known" in unknown.output
    assert "the receiver is off" in off.output


def test_a_job_is_the_accounts_or_a_zones_by_its_dataset(config: Path, api: Api) -> None:
    ways = [(), ("--create",), ("--check",)]
    of_zone = [job(config, *way) for way in ways]
    of_account = [job(config, *way, "--zone", "z", dataset="audit_logs_v2") for way in ways]

    assert {2} == {done.exit_code for done in of_zone + of_account}
    assert all("jobs of http_requests belong to a zone" in done.output for done in of_zone)
    assert all("jobs of audit_logs_v2 belong to the account" in one.output for one in of_account)
    assert api.asked == []
