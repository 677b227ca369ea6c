"""What a row costs: bytes in the journal and memory, with a sink that is out."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tests.docs.shell import BIN

_ROWS = 200_000
_RATE, _HISTORY = 4000, "50s"
_LONGEST = 300.0
_SETTINGS = """\
version: 1
state_dir: {folder}/state
accounts:
  - account_id: 023e105f4ecef8ad9ca31a8372d0c353
    api_token: simulated-token
    api_url: {url}
    rate_limit: off
    streams: {{ access_requests: {{}} }}
sinks:
  out: {{ type: http, url: "http://127.0.0.1:9/", format: ocsf }}
admin: {{ listen: "127.0.0.1:0" }}
log: {{ format: json }}
"""


def measure_journal() -> str:
    """Read 200,000 logins or more while nothing can be delivered; return the table."""
    with tempfile.TemporaryDirectory(prefix="sizing-") as name:
        folder = Path(name)
        given = ["--port", "0", "--unlimited", "--rate", f"{_RATE}", "--history", _HISTORY]
        api = subprocess.Popen([BIN / "forwarder", "simulate", *given], stdout=subprocess.PIPE)
        assert api.stdout is not None
        settings = folder / "config.yaml"
        settings.touch(mode=0o600)
        url = api.stdout.readline().decode().strip()
        settings.write_text(_SETTINGS.format(folder=folder, url=url))
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen([BIN / "forwarder", "run", "-c", settings], stderr=log)
        try:
            status = _filled(folder / "log")
            memory = psutil.Process(daemon.pid).memory_info().rss
        finally:
            for process in (daemon, api):
                process.terminate()
                process.wait()
    return _table(status, memory)


def _filled(log: Path) -> dict[str, Any]:
    """Return the status once enough rows wait."""
    end = time.monotonic() + _LONGEST
    while time.monotonic() < end:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for url in (line["url"] for line in lines if line["event"] == "admin_listening"):
            with urllib.request.urlopen(f"{url}/status", timeout=20) as answer:
                status: dict[str, Any] = json.loads(answer.read())
            if status["sinks"][0]["backlog_events"] >= _ROWS:
                return status
        time.sleep(1)  # noqa: TID251 - nothing else runs here
    raise TimeoutError("the rows were not read in time")


def _table(status: dict[str, Any], memory: int) -> str:
    rows = status["sinks"][0]["backlog_events"]
    journal = status["journal"]
    stored, file = journal["undelivered_bytes"] / rows, journal["file_bytes"] / rows
    most = journal["limit_bytes"] * 0.95 / stored
    return "\n".join(
        (
            "| what | found |",
            "|---|---|",
            f"| undelivered logins when it was measured | {rows:,} |",
            f"| bytes a login, as `journal.max_size` counts them | {stored:.0f} |",
            f"| bytes a login in the file, with identities and indexes | {file:.0f} |",
            f"| logins that the default of `journal.max_size` holds | {most:,.0f} |",
            f"| resident memory of the process | {memory / 2**20:.0f} MiB |",
        )
    )
