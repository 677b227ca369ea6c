"""The package in docs/adding-a-sink.md installs, keeps the contract, is found, and delivers."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from forwarder.core import telemetry
from forwarder.testing.fake_server import FakeServer, body_of
from tests.docs.shell import ROOT
from tests.end_to_end.processes import ACCOUNT, SCRIPT, TOKEN, cloudflare, until

PAGE = ROOT / "docs/adding-a-sink.md"
_FILE = re.compile(r"^`(lines-sink/[\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page and of its examples in ``lines-sink``, and what pip makes of them."""
    folder = tmp_path_factory.mktemp("author")
    shutil.copytree(PAGE.parent / "examples/lines-sink", folder / "lines-sink")
    for name, text in _FILE.findall(PAGE.read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    # The index is left alone: hatchling and the forwarder are there already.
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site")]
    ran(folder, sys.executable, "-m", "pip", "install", "--quiet", *options, "./lines-sink")
    return folder


def environment(folder: Path) -> dict[str, str]:
    paths = [str(folder / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def ran(folder: Path, *command: str | Path) -> str:
    """Run a command in ``folder``; return what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_of_an_event_describes_a_line_with_its_name_as_code() -> None:
    (block,) = re.findall(
        r"^```python\n(@event.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    names = dict(vars(telemetry))
    exec(block, names)

    description = names["TokenExpiresSoon"].description
    assert (description.line, description.keys) == ("plugin", ("code", "sink", "days"))


def test_its_own_tests_pass(package: Path) -> None:
    out = ran(package, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "lines-sink")

    passed = re.search(r"^(\d+) passed", out, re.MULTILINE)
    assert passed is not None, out
    assert int(passed[1]) > 20


@pytest.mark.parametrize(
    ("module", "line", "broken", "red"),
    [
        (
            "lines_sink.py",
            'if answer.strip() != b"%d" % count:',
            "if answer is None:",
            "test_what_was_not_confirmed_is_not_delivered",
        ),
        (
            "inbox_sink.py",
            "self._http.check(answer)",
            "answer.status",
            "test_being_locked_out_asks_for_a_person_and_loses_nothing",
        ),
    ],
)
def test_a_sink_that_believes_every_answer_breaks_its_tests(
    package: Path, module: str, line: str, broken: str, red: str
) -> None:
    """So that the suites on the page are seen to catch something."""
    path = package / "lines-sink" / module
    text = path.read_text()
    assert line in text
    path.write_text(text.replace(line, broken))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "lines-sink"],
            cwd=package,
            env={**environment(package), "PYTHONPATH": f"{package}/lines-sink:{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        path.write_text(text)

    assert done.returncode == 1
    assert red in done.stdout


def test_both_sinks_are_listed_and_known_to_the_schema(package: Path) -> None:
    listed = ran(package, SCRIPT, "plugins")
    schema = ran(package, SCRIPT, "config", "schema")

    assert re.search(r"^sink +lines +lines over TCP, with an answer$", listed, re.MULTILINE)
    assert re.search(r"^sink +inbox +JSON lines over HTTP, with", listed, re.MULTILINE)
    assert "TCP port of the receiver" in schema


class Inbox(FakeServer):
    """Stores lines and refuses none."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.lines += (await body_of(request)).splitlines()
        return web.json_response({"refused": []})


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answer with the number of lines; yield the port and the lines."""
    arrived: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.read()).splitlines()
        arrived.extend(lines)
        writer.write(b"%d\n" % len(lines))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], arrived


async def test_the_forwarder_checks_them_and_delivers_through_both(
    package: Path, tmp_path: Path
) -> None:
    async with (
        cloudflare("--history", "1m") as api,
        receiver() as (port, arrived),
        Inbox() as inbox,
    ):
        settings = tmp_path / "c.yaml"
        settings.touch(mode=0o600)
        settings.write_text(f"""
version: 1
state_dir: {tmp_path}/state
accounts: [{{ account_id: {ACCOUNT}, api_token: {TOKEN}, api_url: "{api.url}" }}]
sinks:
  first: {{ type: inbox, url: "{inbox.url}" }}
  second: {{ type: lines, host: 127.0.0.1, port: {port} }}
admin: {{ listen: off }}
""")
        checked = await asyncio.to_thread(ran, package, SCRIPT, "check", "--live", "-c", settings)
        daemon = await asyncio.create_subprocess_exec(
            SCRIPT, "run", "-c", settings, env=environment(package), stderr=subprocess.DEVNULL
        )
        try:
            await until(lambda: len(arrived) > 10 and len(inbox.lines) > 10)
        finally:
            daemon.terminate()
            status = await daemon.wait()

    assert "ok       sink first: can be reached" in checked
    assert "ok       sink second: can be reached" in checked
    assert status == 0
    assert all(orjson.loads(line)["metadata"]["uid"] for line in arrived + inbox.lines)
