"""Commands say what is so: counts, what is unknown, what nobody can answer."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from forwarder.cli.program import program
from forwarder.core.timing import SystemClock, format_seconds
from forwarder.simulator import ACCESS_REQUESTS, DEFAULT_ACCOUNT, Simulator, SimulatorSettings
from tests.end_to_end.processes import SCRIPT

SETTINGS = f"""\
version: 1
state_dir: FOLDER/state
accounts:
  - account_id: {DEFAULT_ACCOUNT}
    name: acme
    api_token: simulated-token
    api_url: URL
    streams: {{ access_requests: {{}} }}
sinks:
  taking: {{ type: file, path: FOLDER/events, format: raw, start_at: beginning }}
  small:
    type: syslog
    host: 127.0.0.1
    port: 9
    transport: udp
    format: ocsf
    max_message_bytes: 480B
    start_at: beginning
admin: {{ listen: off }}
log: {{ level: error }}
"""
HOSTILE = "\x1b]0;owned\x07\x9b31m\u202eevil"


@dataclass(frozen=True)
class Site:
    """A folder with settings, and a Cloudflare that shows logins of the last hour."""

    folder: Path
    api: Simulator

    @property
    def settings(self) -> Path:
        return self.folder / "config.yaml"

    def write(self, text: str) -> None:
        self.settings.touch(mode=0o600)
        text = text.replace("FOLDER", str(self.folder)).replace("URL", self.api.url)
        self.settings.write_text(text)

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Run a command without a terminal; return its status, stdout and stderr."""
        process = await asyncio.create_subprocess_exec(
            SCRIPT,
            *words,
            "-c",
            self.settings,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "COLUMNS": "200"},
        )
        out, err = await asyncio.wait_for(process.communicate(), 100)
        return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Simulator(SimulatorSettings(rate=0.05, scim_rate=0, history=3600)) as api:
        made = Site(tmp_path, api)
        made.write(SETTINGS)
        yield made


async def test_backfill_counts_what_it_stored_and_its_refusals_are_listed(site: Site) -> None:
    """One journal for all of this: each step is a process of its own."""
    code, out, err = await site.run("backfill", "--since", "50m")
    rows = site.api.shown_count(DEFAULT_ACCOUNT, ACCESS_REQUESTS)
    assert code == 0, err
    assert rows > 50
    assert f"done, {rows} row(s)" in out

    _, out, err = await site.run("dead-letters", "list", "--limit", "3", "--sink", "small")
    assert len(out.splitlines()) == 4
    assert f"3 of {rows} dead letters, oldest first. --limit shows more" in err
    _, out, _ = await site.run("dead-letters", "list", "--limit", "2", "--json")
    first, second = orjson.loads(out)
    assert first["size"] > 300
    _, out, _ = await site.run("dead-letters", "list", "--group", "--json")
    assert [(one["sink"], one["events"]) for one in orjson.loads(out)] == [("small", rows)]
    _, out, _ = await site.run("dead-letters", "list", "--since", "2000-01-02T00:00:00Z", "--json")
    assert len(orjson.loads(out)) == min(rows, 100)

    for words in (
        ("dead-letters", "replay", "--sink", "small", "999999"),
        ("dead-letters", "drop", "--yes", "--sink", "small", str(first["id"]), "999999"),
    ):
        code, _, err = await site.run(*words)
        assert (code, "small has no dead letter 999999;" in err) == (2, True), err
    code, out, _ = await site.run(
        "dead-letters", "drop", "--yes", "--sink", "small", str(second["id"])
    )
    assert (code, out) == (0, "1 dead letter(s) of small deleted\n")

    # A file with faults elsewhere stands in nobody's way.
    site.write(SETTINGS.replace("type: file", "type: fiel").replace("simulated-token", "${NONE}"))
    for command in ("cursors", "gaps", "dead-letters"):
        code, out, err = await site.run(command, "list")
        assert (code, "only state_dir and journal are used" in err) == (0, True), err
    code, _, err = await site.run("replay", "--sink", "taking", "--since", "1h")
    assert (code, "the environment variable NONE is not set" in err) == (2, True), err
    code, _, err = await site.run("status")
    assert (code, "no daemon answers" in err) == (1, True), err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backfill", "--since", "1h", "--sink", "nope"), "; there is small, taking"),
        (("backfill", "--since", "1h", "--stream", "nope"), "; there is access_requests"),
        (("backfill", "--since", "1h", "--account", "nope"), f"; there is {DEFAULT_ACCOUNT}, acme"),
        (("backfill", "--cancel", "backfill:1"), "no open lane is called backfill:1"),
        (("replay", "--sink", "nope", "--since", "1h"), "; there is small, taking"),
        (("verify", "--since", "1h", "--sink", "nope"), "; there is small, taking"),
        (("preview", "--sink", "nope"), "; there is small, taking"),
        (("dead-letters", "list", "--sink", "nope"), "; there is small, taking"),
        (("dead-letters", "replay", "--sink", "nope"), "; there is small, taking"),
        (("dead-letters", "drop", "--yes", "--sink", "nope"), "; there is small, taking"),
        (("dead-letters", "drop", "--sink", "small"), "ALL dead letters of small? Nobody can"),
        (
            ("cursors", "set", "--account", "x", "--stream", "scim_updates", "--to", "1h"),
            f"; there is {DEFAULT_ACCOUNT}, acme",
        ),
        (
            ("cursors", "set", "--account", "acme", "--stream", "scim_updates", "--to", "1h"),
            "no stream is called scim_updates; there is access_requests",
        ),
        (
            ("cursors", "set", "--account", "acme", "--stream", "access_requests", "--to", "1h"),
            "Nobody can answer here: add --yes",
        ),
        (("backfill", "--since", "40d"), "acme has its logs since"),
        (("backfill", "--since", "1h", "--until", "2h"), "--until must be later than --since"),
        (("backfill", "--since", "0001-01-01T00:00:00Z"), "allowed: 2000-01-01T00:00:00Z to "),
        (("verify", "--since", "0001-01-01T00:00:00Z"), "allowed: 2000-01-01T00:00:00Z to "),
        (("verify", "--since", "1h", "--until", "2h"), "--until must be later than --since"),
        (("replay", "--sink", "small", "--since", "9999-12-31T00:00:00Z"), "is out of range"),
        (("status", "--nope"), "No such option"),
        (("no-such-command",), "No such command"),
    ],
)
def test_what_makes_no_sense_ends_with_2_and_names_what_there_is(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """Without a journal, a daemon, or a Cloudflare that answers: nothing has been done yet."""
    site = Site(tmp_path, Simulator())
    site.write(SETTINGS.replace("URL", "http://127.0.0.1:9/client/v4"))

    result = CliRunner().invoke(program, [*words, "-c", str(site.settings)])

    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


async def test_a_daemon_is_watched_in_lines_where_there_is_no_terminal(site: Site) -> None:
    daemon = await asyncio.create_subprocess_exec(
        SCRIPT, "run", "-c", site.settings, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(60):
            while "live" not in (await site.run("cursors", "list"))[1]:
                pass
        json_line = await first_line(site, "status", "--watch", "--json")
        line = await first_line(site, "status", "--watch")
        where = ("--account", "acme", "--stream", "access_requests", "--to")
        ahead = format_seconds(SystemClock().now_us() + 3_600_000_000)
        code, out, err = await site.run("cursors", "set", *where, ahead, "--yes")
    finally:
        daemon.terminate()
        await daemon.wait()

    assert {sink["sink"] for sink in orjson.loads(json_line)["sinks"]} == {"taking", "small"}
    assert ", lag " in line
    assert "--to is in the future; the position is set to now" in err
    assert code == 0, err
    assert out.removeprefix("acme/access_requests: covered until ") < ahead


async def first_line(site: Site, *words: str) -> str:
    """Return the first line of a command that does not end by itself."""
    process = await asyncio.create_subprocess_exec(
        SCRIPT, *words, "-c", site.settings, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        return (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    finally:
        process.kill()
        await process.wait()


async def test_nothing_from_outside_steers_the_terminal(site: Site) -> None:
    site.write(SETTINGS.replace("name: acme", f"name: {json.dumps(HOSTILE)}"))

    printed = ""
    for words in (
        ("check", "--live"),
        ("config", "show"),
        ("backfill", "--since", "5m"),
        ("cursors", "list"),
        ("verify", "--since", "5m"),
        ("backfill", "--since", "5m", "--sink", HOSTILE),
    ):
        _, out, err = await site.run(*words)
        printed += out + err

    assert "evil" in printed
    assert [sign for sign in printed if not sign.isprintable() and sign != "\n"] == []


def test_only_the_terminal_writes() -> None:
    """One writer: whatever prints elsewhere would have to make texts harmless by itself."""
    folder = Path(__file__).parents[2] / "forwarder/cli"
    printing = ("print(", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write")

    found = {
        f"{path.name}: {line.strip()}"
        for path in folder.glob("*.py")
        if path.name != "terminal.py"
        for line in path.read_text().splitlines()
        if any(word in line.replace("_print(", "").replace(".print(", "") for word in printing)
    }

    # The script for a shell comes from click and holds nothing from outside.
    assert [line.partition("(")[0] for line in found] == ["program.py: click.echo"]
